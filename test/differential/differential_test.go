package differential

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// plane is a way from the client to the server.
type plane struct {
	name string
	to   func(t testing.TB, backend string) string // returns the address that a client of the backend calls
	// asSent puts back what the plane changes of every request.
	asSent func(got, sent testbed.Fields) testbed.Fields
	// holdsParts says that the beginning of a message is held back until all of it, or 32 KiB, is there.
	holdsParts bool
}

// The planes. The calls of handled are those that package relay gives to package handler: all of a route that needs more than
// relaying, and those whose first endpoint did not take them.
var (
	directly = plane{name: "direct", to: func(_ testing.TB, backend string) string { return backend }, asSent: asSent}
	planes   = []plane{
		{name: "relay", to: over(conf.DataPlaneRelay, ""), asSent: asSent},
		{name: "handled", to: over(conf.DataPlaneRelay, "retry: {attempts: 2}"), asSent: asSent, holdsParts: true},
		{name: "kitex", to: over(conf.DataPlaneKitex, ""), asSent: asSentByKitex, holdsParts: true},
	}
)

// over returns the way over a framegate with a data plane and one more key of the route.
func over(dataPlane, key string) func(t testing.TB, backend string) string {
	return func(t testing.TB, backend string) string {
		t.Helper()
		return testbed.NewProxy(t, testbed.RouteWith(backend, key), testbed.On(dataPlane)).Addr
	}
}

// played are the planes that scripts are played over. With the race detector, which is slow, that is the relay's alone.
var played = race.Choose(planes, planes[:2])

// TestDifferential plays each script without a framegate and over each plane, with raw frames at both ends, and compares what
// both ends saw.
func TestDifferential(t *testing.T) {
	t.Parallel()
	scripts := allScripts()
	without := newStage(t, directly, nil, nil)
	direct := make([]func() transcript, len(scripts))
	for i := range scripts {
		direct[i] = sync.OnceValue(func() transcript { return without.play(&scripts[i]) })
	}
	for _, p := range played {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			with := newStage(t, p, nil, nil)
			used, n := map[*rule]bool{}, 0
			for i := range scripts {
				t.Run(scripts[i].name, func(t *testing.T) {
					n++
					for _, r := range compare(t, &scripts[i], direct[i](), with) {
						used[r] = true
					}
				})
			}
			for i := range rules {
				if r := &rules[i]; n == len(scripts) && r.isOf(p.name) && !used[r] {
					t.Errorf("no script differs by the rule %q", r.entry)
				}
			}
		})
	}
}

// compare plays a script over a plane, and checks that it differs from what both ends saw without a framegate in what the rules
// of the plane say. It returns the rules by which it does.
func compare(t testing.TB, sc *script, direct transcript, with *stage) (used []*rule) {
	t.Helper()
	if direct.has(isMissing) {
		t.Fatalf("the script does not end without a framegate:\n%s", direct)
	}
	plane := with.plane.name
	if sc.handedOver && plane == "relay" {
		plane = "handled"
	}
	want, used := expected(direct, sc, plane)
	got, isFirst := with.playOn(sc)
	if isFirst && plane == "relay" { // package handler makes the call that waits for a connection
		if handled, _ := expected(direct, sc, "handled"); slices.Equal(got, handled) {
			got = with.play(sc)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got other than wanted:\n%s\nwithout framegate:\n%s", strings.Join(difference(want, got), "\n"), direct)
	}
	return used
}

// The rules are the known differences that the README lists, over the same planes.
func TestRules_AreTheListOfTheREADME(t *testing.T) {
	b, err := os.ReadFile("../../handler/README.md")
	require.NoError(t, err)
	_, list, _ := strings.Cut(string(b), "\n| what | arrives as | over |\n|---|---|---|\n")
	list, _, _ = strings.Cut(list, "\n\n")
	documented := map[string]string{}
	for row := range strings.SplitSeq(strings.TrimSpace(list), "\n") {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		require.Len(t, cells, 3, row)
		documented[cells[0]] = cells[2]
	}
	over := map[string]string{}
	for _, p := range planes {
		seen := map[string]bool{}
		for i := range rules {
			if r := &rules[i]; r.isOf(p.name) && !seen[r.entry] {
				seen[r.entry] = true
				over[r.entry] = strings.TrimPrefix(over[r.entry]+", "+p.name, ", ")
			}
		}
	}
	require.Equal(t, documented, over)
}

// allScripts returns the tables.
func allScripts() []script {
	return slices.Concat(callScripts(), bodyScripts(), requestScripts(), metadataScripts(), statusScripts(), resetScripts(), strangeScripts())
}
