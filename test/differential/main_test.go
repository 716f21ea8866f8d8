// Package differential plays scripted calls without a framegate and over one, with raw frames at both ends, and compares what both
// ends saw.
//
// Enter at differential_test.go; then play_test.go (a script and its acts), stage_test.go (the two ends), transcript_test.go (what
// they saw), and rules_test.go: what framegate changes of that, each with its entry in the list of known differences of
// handler/README.md. metadata_rules_test.go and kitex_rules_test.go have further rules of single planes. The scripts are in
// calls_test.go, fields_test.go, status_test.go, resets_test.go and strange_test.go, and random_test.go makes more.
package differential

import (
	"io"
	"os"
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/netpoll"

	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	klog.SetOutput(io.Discard) // streams are reset here
	netpoll.SetLoggerOutput(io.Discard)
	together.Wait(12)
	os.Exit(m.Run())
}
