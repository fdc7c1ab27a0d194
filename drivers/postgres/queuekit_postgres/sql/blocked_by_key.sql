-- claim: which of these jobs stand behind another unfinished job of their key.
SELECT j.id::text FROM {schema}.jobs AS j
WHERE j.ns = %(ns)s AND j.id = ANY(%(ids)s::uuid[]) AND NOT j.head AND EXISTS (
    SELECT 1 FROM {schema}.jobs AS k
    WHERE k.ns = j.ns AND k.key = j.key AND k.id <> j.id
      AND (k.head OR coalesce(k.turn, k.seq) < coalesce(j.turn, j.seq))
)
