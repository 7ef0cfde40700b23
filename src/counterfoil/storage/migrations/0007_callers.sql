-- Callers: OAuth clients, access groups, and issuers of user tokens that an organisation trusts.

-- Which calls a credential may make: names of endpoints or of whole families of them.
CREATE TABLE access_group (
    org_id     bigint NOT NULL REFERENCES organisation,
    name       text NOT NULL,
    resources  text[] NOT NULL,
    PRIMARY KEY (org_id, name)
);

ALTER TABLE credential
    ADD COLUMN token_seconds integer           -- life of an OAuth client's access tokens
        CONSTRAINT credential_token_seconds_range CHECK (token_seconds BETWEEN 60 AND 2592000),
    ADD COLUMN access_group text,              -- null: every call
    ADD FOREIGN KEY (org_id, access_group) REFERENCES access_group,
    ADD CONSTRAINT credential_oauth_is_complete CHECK (
        (kind = 'oauth') = (token_seconds IS NOT NULL) AND (kind <> 'oauth' OR person_id IS NOT NULL));

-- Up to three names that other systems have for a store, in their order.
ALTER TABLE org_unit ADD COLUMN external_ids text[] NOT NULL DEFAULT '{}';

-- Who else may say who a person is. The algorithm is written down here and never taken from a token.
CREATE TABLE ui_token_issuer (
    org_id              bigint NOT NULL REFERENCES organisation,
    issuer              text NOT NULL,
    algorithm           text NOT NULL CONSTRAINT ui_token_issuer_algorithm_known
        CHECK (algorithm IN ('HS256', 'RS256', 'PS256', 'ES256')),
    audience            text,                  -- null: whatever the token says
    user_id_claim       text,
    user_name_claim     text,
    organisation_claim  text NOT NULL,
    decides_from        timestamptz,           -- null: from the first moment
    keys                text NOT NULL,         -- a JWKS of public keys; of HS256, the sealed secret in hex
    PRIMARY KEY (org_id, issuer),
    CONSTRAINT ui_token_issuer_names_users CHECK (user_id_claim IS NOT NULL OR user_name_claim IS NOT NULL)
);
