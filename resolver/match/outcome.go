package match

// Outcome is what a change did, or would do, to a route.
type Outcome string

// The outcomes of a write.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Unchanged Outcome = "unchanged" // the same document was there; nothing was written
	Deleted   Outcome = "deleted"
)

// NotFound is the outcome of a planned deletion of a route that does not exist.
const NotFound Outcome = "not found"
