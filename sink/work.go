package sink

// ReplayAgent is the agent of replay's own requests.
const ReplayAgent = "wattline-replay"

// Work is the condition, in SQL, that a request was work for a client of the user: not housekeeping (health, models,
// properties, counting tokens), and none of replay's own.
const Work = "dialect IS NOT NULL AND dialect <> 'tokenize' AND dialect <> 'count' AND (agent IS NULL OR agent <> '" + ReplayAgent + "')"
