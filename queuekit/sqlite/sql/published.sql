-- published: a job on the transport stays out of the outbox for a while, unless it was set aside anew since its ticket left.
UPDATE "{ns}.jobs" SET due = ? WHERE id = ? AND held = 'published' AND due <= ?
