package relay

import (
	"testing"
	"time"

	"github.com/framegate/framegate/relay/h2"
)

// patience is how long anything may take on a busy machine.
const patience = 30 * time.Second

// newTestShard returns a shard without connections and without its watch, which is closed with the test.
func newTestShard(t testing.TB) *shard {
	s := newShard(h2.NewBudget(64 << 20))
	t.Cleanup(s.close)
	return s
}
