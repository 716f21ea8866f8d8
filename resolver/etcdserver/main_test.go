package etcdserver

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/leak"
)

// aloneEnv is set in the environment of a process that runs one test, after which goroutines may be left.
const aloneEnv = "TEST_ALONE"

func TestMain(m *testing.M) {
	if os.Getenv(aloneEnv) != "" {
		os.Exit(m.Run())
	}
	leak.Main(m, 8)
}

// Alone runs the test that calls it in a process of its own, because etcd leaves goroutines behind when it fails. It returns
// true in that process, and false in the one that waits for it.
func Alone(t *testing.T) bool {
	if os.Getenv(aloneEnv) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), aloneEnv+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name()+" ")
	return false
}
