-- Sealed headers may be sealed anew with another key, and that changes nothing else: not their length, not the request.
CREATE TRIGGER request_sealed_headers_only_sealed_anew BEFORE UPDATE ON request FOR EACH ROW
    WHEN (OLD.sealed_headers IS DISTINCT FROM NEW.sealed_headers
          AND (octet_length(OLD.sealed_headers) <> octet_length(NEW.sealed_headers)
               OR (OLD.state, OLD.version, OLD.fence, OLD.outcome) IS DISTINCT FROM
                  (NEW.state, NEW.version, NEW.fence, NEW.outcome)))
    EXECUTE FUNCTION refuse_change();
