-- settle_in: a transaction whose lease is lost must not be committed.
DO $$ BEGIN RAISE EXCEPTION 'queuekit: the lease is lost, so this transaction cannot be committed'; END $$
