package app

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/kitex_gen/echo"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
)

// startTapped runs a framegate whose calls can be watched, in front of an echo service, with a route of those keys.
func startTapped(t *testing.T, keys string, set func(*conf.Config)) (*gateway.Gateway, echosvc.Client) {
	t.Helper()
	proto, err := filepath.Abs("../../../idl/echo.proto")
	require.NoError(t, err)
	return startGateway(t, fmt.Appendf(nil, "name: echo\nmatch: [{method: /echo.Echo/*}]\nschema: {files: [%q]}\nbackends: [{endpoints: [{address: %q}]}]\n%s",
		proto, serveBenchEcho(t), keys), func(c *conf.Config) {
		c.Admin.Tap = true
		if set != nil {
			set(c)
		}
	})
}

// tapped runs `framegate tap` with args while calls are made, until it ends, and returns what it printed.
func tapped(t *testing.T, g *gateway.Gateway, call func() error, args ...string) []string {
	t.Helper()
	type result struct {
		stdout, stderr string
		code           int
	}
	done := make(chan result, 1)
	go func() {
		stdout, stderr, code, err := execute(t.Context(), newTapCommand(), "", append(args, "--admin", g.AdminAddr())...)
		if err != nil {
			stderr += err.Error()
		}
		done <- result{stdout, stderr, code}
	}()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case r := <-done:
			require.Empty(t, r.stderr)
			require.Equal(t, exitDone, r.code)
			return strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
		case <-timeout:
			t.Fatal("framegate tap has not ended within 20s")
		default:
			require.NoError(t, call()) // again and again: those before the tap is open are not shown
		}
	}
}

func say(t *testing.T, cc echosvc.Client, message string) func() error {
	return func() error {
		_, err := cc.Say(t.Context(), &echo.Request{Message: message, Payload: []byte("secret")})
		return err
	}
}

func TestTap_ShowsMessagesOfStructModeRedacted(t *testing.T) {
	t.Parallel()
	g, cc := startTapped(t, "mode: struct\nstruct: {rules: [{on: request, when: 'false', action: redact, fields: [payload]}]}\n", nil)
	lines := tapped(t, g, say(t, cc, "hello"), "/echo.Echo/*", "--count", "4", "--json")
	require.Len(t, lines, 4)
	directions := map[string]bool{}
	for _, line := range lines {
		var s handler.Shown
		require.NoError(t, json.Unmarshal([]byte(line), &s), line)
		directions[string(s.Direction)] = true
		require.Equal(t, "/echo.Echo/Say", s.Method)
		require.Equal(t, "echo", s.Route)
		require.NotEmpty(t, s.Peer)
		require.NotEmpty(t, s.Endpoint)
		if s.Direction == "request" {
			require.JSONEq(t, `{"message": "hello"}`, string(s.Message), "what a rule may hide is hidden")
		} else {
			require.JSONEq(t, `{"payload": "c2VjcmV0"}`, string(s.Message))
		}
	}
	require.Equal(t, map[string]bool{"request": true, "response": true}, directions)
}

func TestTap_ShowsMessagesOfFrameModeThatMeetACondition(t *testing.T) {
	t.Parallel()
	g, cc := startTapped(t, "", nil)
	n := 0
	lines := tapped(t, g, func() error {
		n++
		return say(t, cc, fmt.Sprintf("n%d", n%3))()
	}, "/echo.Echo/Say", "--where", `message.message == "n2" && message.payload.size() == 6`, "--count", "2")
	require.Len(t, lines, 2)
	for _, line := range lines {
		require.Regexp(t, `^\d\d:\d\d:\d\d\.\d{3} (->|<-) /echo\.Echo/Say #0 127\.0\.0\.1:\d+ \{"message":"n2","payload":"c2VjcmV0"\}$`, line)
	}
}

func TestTap_SaysWhyNot(t *testing.T) {
	t.Parallel()
	g, _ := startTapped(t, "", nil)
	off, _ := startTapped(t, "", func(c *conf.Config) { c.Admin.Tap = false })
	guarded, _ := startTapped(t, "", func(c *conf.Config) { c.Admin.Token = "t0ken" })
	for _, c := range []struct {
		g    *gateway.Gateway
		args []string
		code int
		want string
	}{
		{g, []string{"/echo.Echo/*", "--where", "message. =="}, exitFailed, "where: 1:10: Syntax error"},
		{g, []string{"echo"}, exitUsage, `arguments ["echo"], want one pattern such as /pkg.Service/*`},
		{g, []string{"*", "--count", "-1"}, exitUsage, "--count: -1, want 0 or more"},
		{g, []string{"*", "--rate", "0"}, exitUsage, "--rate: 0, want 1 to 1000"},
		{off, []string{"*"}, exitFailed, "tap: not provided by this framegate (not_provided)"},
		{guarded, []string{"*"}, exitFailed, "(unauthorized)"},
	} {
		_, _, code, err := execute(t.Context(), newTapCommand(), "", append(c.args, "--admin", c.g.AdminAddr())...)
		require.ErrorContains(t, err, c.want)
		require.Equal(t, c.code, code)
	}
	_, _, code, err := execute(t.Context(), newTapCommand(), "", "*", "--admin", "127.0.0.1:1")
	require.ErrorContains(t, err, "is that framegate running?")
	require.Equal(t, exitFailed, code)
}

func TestTap_EndsWithItsContextAndWithTheServer(t *testing.T) {
	t.Parallel()
	g, cc := startTapped(t, "", nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for _, ctx := range []context.Context{ctx, t.Context()} {
		go func() {
			_, _, _, err := execute(ctx, newTapCommand(), "", "*", "--admin", g.AdminAddr())
			done <- err
		}()
	}
	require.NoError(t, say(t, cc, "x")())
	cancel()
	require.NoError(t, <-done, "an interrupt is how it ends")
	g.Shutdown(t.Context())
	require.ErrorContains(t, <-done, "admin server at "+g.AdminAddr())
}
