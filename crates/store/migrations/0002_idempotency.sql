-- What the client called its request, so that asking again does not make a second sandbox. A sandbox that never ran does not hold its key.
ALTER TABLE sandboxes ADD COLUMN idempotency_key TEXT;
ALTER TABLE sandboxes ADD COLUMN request_digest TEXT;
CREATE UNIQUE INDEX sandboxes_by_key ON sandboxes (team, idempotency_key) WHERE idempotency_key IS NOT NULL;
