package app

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/loopback"
)

// startMirrored runs a framegate whose route has a mirror that cannot be reached, one that compares, and one that records, and makes a
// call. It returns the address of the backend.
func startMirrored(t *testing.T) (g *gateway.Gateway, backend, tapes string) {
	t.Helper()
	backend, tapes = serveBenchEcho(t), filepath.Join(t.TempDir(), "tapes")
	g, cc := startGateway(t, fmt.Appendf(nil, `
name: echo
match: [{method: /echo.*}]
backends: [{endpoints: [{address: %q}]}]
mirrors:
- {name: dead, backend: {endpoints: [{address: %q}]}}
- {name: same, backend: {endpoints: [{address: %q}]}, compare: {}}
- {name: tape, record: {path: %q}}
`, backend, loopback.Address(t), backend, tapes), nil)
	_, err := cc.Say(t.Context(), &echo.Request{Message: "hello"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		done := 0
		for _, m := range g.Mirrors() {
			if st := m.Status(); st.State == "down" || st.Compared["same"] == 1 || st.Name == "tape" && st.State == "up" && st.Waiting == 0 && st.Messages == 2 {
				done++
			}
		}
		return done == 3
	}, processLimit, time.Millisecond)
	return g, backend, tapes
}

func TestMirrorList_ShowsHowEachDoes(t *testing.T) {
	g, _, _ := startMirrored(t)
	out, _, code, err := execute(t.Context(), newMirrorCommand(), "", "list", "--admin", g.AdminAddr())
	require.NoError(t, err)
	require.Zero(t, code)
	require.Regexp(t, `(?m)^MIRROR +ROUTE +KIND +STATE +CALLS`, out)
	require.Regexp(t, `(?m)^dead +echo +backend +down: framegate: .*connection refused`, out)
	require.Regexp(t, `(?m)^same +echo +backend +up +1 .* same=1$`, out)
	require.Regexp(t, `(?m)^tape +echo +record +up +1 +0 +2 `, out)

	out, _, _, err = execute(t.Context(), newMirrorCommand(), "", "list", "--admin", g.AdminAddr(), "-o", "json")
	require.NoError(t, err)
	var answer struct {
		Mirrors []struct {
			Name  string
			Calls int
			Codes map[string]int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer))
	require.Len(t, answer.Mirrors, 3)
	require.Equal(t, map[string]int{"OK": 1}, answer.Mirrors[1].Codes)

	out, _, _, err = execute(t.Context(), newMirrorCommand(), "", "diff", "same", "--admin", g.AdminAddr(), "-o", "json")
	require.NoError(t, err)
	require.JSONEq(t, "[]", out)
	_, _, _, err = execute(t.Context(), newMirrorCommand(), "", "diff", "other", "--admin", g.AdminAddr())
	require.ErrorContains(t, err, "mirror other: no route in force has a mirror of that name")
	_, _, _, err = execute(t.Context(), newMirrorCommand(), "", "diff")
	require.ErrorContains(t, err, "want the NAME of one mirror")
}

func TestReplay_ListsAndMakesCallsAgain(t *testing.T) {
	_, backend, tapes := startMirrored(t)
	out, _, _, err := execute(t.Context(), newReplayCommand(), "", tapes, "--list")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^TIME +METHOD +CODE +REQUESTS`, out)
	require.Regexp(t, `(?m) /echo.Echo/Say +OK +1 +1 +\d+ `, out)
	out, _, code, err := execute(t.Context(), newReplayCommand(), "", tapes, "--target", backend)
	require.NoError(t, err)
	require.Zero(t, code)
	require.Regexp(t, `(?m)^calls +1\n +OK -> OK +1\nsame +1\ndifferent +0\n$`, out)

	out, _, _, err = execute(t.Context(), newReplayCommand(), "", tapes, "--target", loopback.Address(t), "-o", "json")
	var exit *exitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, exitFailed, exit.code)
	require.Contains(t, out, `"OK -> UNAVAILABLE": 1`)
}

func TestReplay_NamesWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("no recording"), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no file":         {nil, "want at least one FILE"},
		"no target":       {[]string{file}, `--target: "", want host:port or unix:/path`},
		"a wrong target":  {[]string{file, "--target", "http://a"}, `--target: "http://a", want host:port`},
		"a wrong speed":   {[]string{file, "--target", "a:1", "--speed", "-1"}, `--speed: -1, want 0 to`},
		"a wrong filter":  {[]string{file, "--target", "a:1", "--filter", "Say"}, `--filter: `},
		"no calls at all": {[]string{file, "--target", "a:1", "--max-concurrent", "0"}, `--max-concurrent: 0, want 1 to`},
		"a missing file":  {[]string{file + "x", "--list"}, "no such file"},
		"another file":    {[]string{file, "--list"}, "not a recording of framegate"},
		"an empty folder": {[]string{t.TempDir(), "--list"}, "no file there ends in .tape"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := execute(t.Context(), newReplayCommand(), "", c.args...)
			require.ErrorContains(t, err, c.want)
		})
	}
}
