package test

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// h2specCases is how many cases h2spec has, the strict ones and all.
const h2specCases = 146

// A listener passes all cases of https://github.com/summerwind/h2spec. Its parts run at the same time.
func TestH2spec(t *testing.T) {
	t.Parallel()
	tool, err := exec.Command("go", "tool", "-n", "h2spec").Output()
	require.NoError(t, err)
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.On(conf.DataPlaneRelay))

	var mu sync.Mutex // guards results
	results := map[string]string{}
	t.Run("parts", func(t *testing.T) {
		for _, part := range []string{"generic", "http2", "hpack"} {
			t.Run(part, func(t *testing.T) {
				t.Parallel()
				got := runH2spec(t, strings.TrimSpace(string(tool)), proxy.Addr, part)
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(results, got)
			})
		}
	})
	require.Len(t, results, h2specCases)
	for _, id := range slices.Sorted(maps.Keys(results)) {
		if fault := results[id]; fault != "" {
			t.Errorf("%s: %s", id, fault)
		}
	}
}

// runH2spec runs a part of h2spec against a listener, and returns what is wrong by the case's name: "" for one that passes.
func runH2spec(t *testing.T, tool, addr, part string) map[string]string {
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "report.xml")
	// The timeout is that of a frame that does not come, in seconds.
	said, err := exec.CommandContext(t.Context(), tool, part, "--host", host, "--port", port, "--path", testbed.Method, "--timeout", "4", "--strict", "--junit-report", file).CombinedOutput()
	written, readErr := os.ReadFile(file)
	require.NoError(t, readErr, "h2spec ended with %v: %s", err, said)

	var report struct {
		Suites []struct {
			Package string `xml:"package,attr"` // of the part and the section
			Cases   []struct {
				Name    string  `xml:"classname,attr"`
				Skipped *string `xml:"skipped"`
				Error   *string `xml:"error"` // what was wanted and what came
				Failure *string `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	require.NoError(t, xml.Unmarshal(written, &report))
	results := map[string]string{}
	for _, suite := range report.Suites {
		for i, c := range suite.Cases {
			fault := ""
			switch {
			case c.Skipped != nil:
				fault = c.Name + ": skipped"
			case c.Error != nil:
				fault = c.Name + ": " + *c.Error
			case c.Failure != nil:
				fault = c.Name + ": " + *c.Failure
			}
			results[fmt.Sprintf("%s/%d", suite.Package, i+1)] = fault
		}
	}
	return results
}
