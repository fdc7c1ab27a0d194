-- claim: a token never used before, also after the file was lost: it follows the wall clock in microseconds.
UPDATE "{ns}.meta" SET value = max(CAST(value AS INTEGER) + 1, ?) WHERE name = 'token' RETURNING CAST(value AS INTEGER)
