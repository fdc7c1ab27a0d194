-- outbox, before it writes: whether anybody stands in line. What time makes due is asked by anything_due.
SELECT EXISTS (SELECT 1 FROM "{ns}.jobs" WHERE ready = 1)
