package app

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func (c *routeCLI) fails(args ...string) string {
	c.t.Helper()
	stdout, _, code, err := c.run(args...)
	require.Error(c.t, err)
	require.Equal(c.t, exitFailed, code)
	require.Empty(c.t, stdout)
	return oneLine(err)
}

func (c *routeCLI) rawPut(name, doc string) {
	c.t.Helper()
	_, err := c.client().Put(c.t.Context(), "/framegate/routes/"+name, doc)
	require.NoError(c.t, err)
}

func TestRoute_IfRevisionRefusesWhatOthersChanged(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	path := document(t, echoRoute)
	require.Equal(t, "route echo: created (revision 2)\n", c.ok("put", "-f", path, "--if-revision", "0"))
	require.Equal(t, "route echo: is at revision 2, want that it does not exist: somebody created it; get it first",
		c.fails("put", "-f", path, "--if-revision", "0"))
	changed := document(t, echoRoute+"priority: 1\n")
	require.Equal(t, "route echo: updated (revision 3)\n", c.ok("put", "-f", changed, "--if-revision", "2"))
	for _, args := range [][]string{{"put", "-f", path}, {"put", "-f", path, "--dry-run"}, {"delete", "echo"}, {"delete", "echo", "--dry-run"}} {
		require.Equal(t, "route echo: is at revision 3, want 2: somebody changed it; get it again", c.fails(append(args, "--if-revision", "2")...))
	}
	require.Equal(t, "route echo: deleted\n", c.ok("delete", "echo", "--if-revision", "3"))
	require.Equal(t, "route echo: not found in etcd at "+c.endpoint, c.fails("delete", "echo", "--if-revision", "3"))
}

func TestRoute_DryRunPrintsWhatWouldChange(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, echoRoute))
	change := document(t, `routes:
- {name: echo, match: [{method: /echo.Echo/*}], backends: [{weight: 90, endpoints: [{address: "127.0.0.1:9001"}]}, {weight: 10, service: canary}]}
- {name: echo-gold, match: [{method: /echo.Echo/Say, headers: [{name: x-tenant, exact: gold}]}], backends: [{service: gold}]}
- {name: shadowed, priority: -1, match: [{method: /echo.Echo/Say}], backends: [{service: nobody}]}
`)
	want := `route echo: would be updated: backends, timeout (revision 2)
route echo-gold: would be created
route shadowed: would be created
/echo.Echo/*: echo (127.0.0.1:9001) -> echo (90 x 127.0.0.1:9001, 10 x service canary)
/echo.Echo/Say: echo (127.0.0.1:9001) -> echo-gold [x-tenant=gold] (service gold), echo (90 x 127.0.0.1:9001, 10 x service canary)
warning: route shadowed would get no call by /echo.Echo/Say: echo (90 x 127.0.0.1:9001, 10 x service canary) is stronger and takes them all
`
	require.Equal(t, want, c.ok("put", "-f", change, "--dry-run"))
	require.Equal(t, want, c.ok("validate", "-f", change), "with --etcd, validate says the same")
	require.NotContains(t, c.ok("list"), "gold", "nothing was written")

	require.Equal(t, "route echo: unchanged (revision 2)\n", c.ok("put", "-f", document(t, echoRoute), "--dry-run"))
	require.Equal(t, "route echo: would be updated: timeout (revision 2)\n/echo.Echo/*: echo (127.0.0.1:9001), as now\n",
		c.ok("put", "-f", document(t, strings.Replace(echoRoute, "1.5s", "2s", 1)), "--dry-run"))
	require.Equal(t, "route echo: would be deleted (revision 2)\n/echo.Echo/*: echo (127.0.0.1:9001) -> no route\n",
		c.ok("delete", "echo", "--dry-run"))
	require.Equal(t, "route none: not found in etcd at "+c.endpoint, c.fails("delete", "none", "--dry-run"))
	require.Contains(t, c.ok("list"), "echo")

	var plan struct {
		Routes    []struct{ Name, Outcome string }
		Calls     []struct{ Method string }
		Unreached []struct {
			Route string
			By    struct{ Route string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(c.ok("put", "-f", change, "--dry-run", "-o", "json")), &plan))
	require.Len(t, plan.Routes, 3)
	require.Len(t, plan.Calls, 2)
	require.Equal(t, "shadowed", plan.Unreached[0].Route)
	require.Equal(t, "echo", plan.Unreached[0].By.Route)

	require.Contains(t, c.fails("put", "-f", document(t, "name: echo"), "--dry-run"), "match: empty")
}

func TestRoute_HistoryAndRollback(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, echoRoute))
	c.ok("put", "-f", document(t, strings.Replace(echoRoute, "9001", "9002", 1)))
	c.rawPut("echo", "colour: red")
	c.ok("delete", "echo")
	history := "REVISION  CHANGE   ROUTE\n" +
		"5         deleted  \n" +
		"4         updated  error: line 1: colour: unknown key, want one of: name, listeners, match, priority, mode, authority, schema, struct, backends, mirrors, select, respond, fanout, balancer, timeout, idle_timeout, max_stream_age, retry, hedge, limits\n" +
		"3         updated  /echo.Echo/* -> 127.0.0.1:9002\n" +
		"2         created  /echo.Echo/* -> 127.0.0.1:9001\n"
	require.Equal(t, history, c.ok("history", "echo"))

	require.Equal(t, "route echo: created, as at revision 3 (revision 6)\n", c.ok("rollback", "echo"))
	require.Equal(t, "route echo: updated, as at revision 2 (revision 7)\n", c.ok("rollback", "echo"))
	require.Equal(t, echoRoute, c.ok("get", "echo", "-o", "yaml"))
	require.JSONEq(t, `{"name":"echo","outcome":"unchanged","revision":7,"to":2}`, c.ok("rollback", "echo", "--to", "2", "-o", "json"))
	require.Equal(t, "roll back route echo: did not exist at revision 5, want one of its history at which it did", c.fails("rollback", "echo", "--to", "5"))
	require.Contains(t, c.fails("rollback", "echo", "--to", "4"), "roll back route echo: bad document at revision 4: line 1: colour: unknown key")

	_, err := c.client().Compact(t.Context(), 6)
	require.NoError(t, err)
	require.Equal(t, "REVISION  CHANGE   ROUTE\n"+
		"7         updated  /echo.Echo/* -> 127.0.0.1:9001\n"+
		"6         created  /echo.Echo/* -> 127.0.0.1:9002\n"+
		"Versions that were replaced up to revision 6 are forgotten: etcd was compacted.\n", c.ok("history", "echo"))
	require.Equal(t, "roll back route echo: etcd has forgotten revision 3 (compacted up to 6), want one of its history", c.fails("rollback", "echo", "--to", "3"))
	require.JSONEq(t, `{"name":"echo","compacted":6,"versions":[
		{"revision":7,"change":"updated","route":{"name":"echo","match":[{"method":"/echo.Echo/*"}],"mode":"frame","timeout":"1.5s","backends":[{"endpoints":[{"address":"127.0.0.1:9001"}]}]}},
		{"revision":6,"change":"created","route":{"name":"echo","match":[{"method":"/echo.Echo/*"}],"mode":"frame","timeout":"1.5s","backends":[{"endpoints":[{"address":"127.0.0.1:9002"}]}]}}]}`,
		c.ok("history", "echo", "-o", "json"))

	for _, command := range []string{"history", "rollback"} {
		require.Equal(t, "route none: not found in etcd at "+c.endpoint, c.fails(command, "none"))
	}
}

// withEditor makes `route edit` run a shell script, whose $1 is the file.
func withEditor(t *testing.T, script string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "an editor.sh")
	require.NoError(t, os.WriteFile(path, []byte(script), 0o600))
	t.Setenv("VISUAL", "sh '"+path+"'")
	t.Setenv("TMPDIR", t.TempDir())
}

func drafts(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(os.TempDir(), "framegate-route-*.yaml"))
	require.NoError(t, err)
	return files
}

// kept returns the text that a message says where to find.
func kept(t *testing.T, message string) string {
	t.Helper()
	found := regexp.MustCompile(`; your text is in (\S+\.yaml)$`).FindStringSubmatch(message)
	require.Len(t, found, 2, message)
	text, err := os.ReadFile(found[1])
	require.NoError(t, err)
	return string(text)
}

func TestRoute_EditStoresWhatTheEditorLeaves(t *testing.T) {
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, echoRoute))
	withEditor(t, `sed 's/9001/9002/' "$1" > "$1.new" && mv "$1.new" "$1"`)
	require.Equal(t, "route echo: updated (revision 3)\n", c.ok("edit", "echo"))
	require.Equal(t, strings.Replace(echoRoute, "9001", "9002", 1), c.ok("get", "echo", "-o", "yaml"))
	require.Equal(t, "route echo: unchanged (revision 3)\n", c.ok("edit", "echo"), "nothing to change")
	require.Empty(t, drafts(t))
	require.Equal(t, "route none: not found in etcd at "+c.endpoint, c.fails("edit", "none"))

	t.Setenv("EDITOR", "echo not this one >&2; false")
	c.rawPut("bad", "name: bad\ncolour: red\n")
	withEditor(t, `sed -i 's/^colour.*/match: [{method: "*"}]\nbackends: [{service: s}]/' "$1"`)
	require.Equal(t, "route bad: updated (revision 5)\n", c.ok("edit", "bad"), "a bad document can be mended")
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", "true")
	require.Equal(t, "route bad: unchanged (revision 5)\n", c.ok("edit", "bad"))
}

func TestRoute_EditKeepsTheTextThatItCannotStore(t *testing.T) {
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, echoRoute))
	withEditor(t, `echo 'colour: red' >> "$1"`)
	message := c.fails("edit", "echo")
	require.Contains(t, message, "route echo: line 9: colour: unknown key")
	require.Equal(t, echoRoute+"colour: red\n", kept(t, message))

	withEditor(t, `sed -i 's/name: echo/name: other/' "$1"`)
	message = c.fails("edit", "echo")
	require.Contains(t, message, `route echo: name: "other", want "echo": to rename a route, put it`)
	require.Contains(t, kept(t, message), "name: other")

	withEditor(t, `echo 'priority: 1' >> "$1"; exit 3`)
	message = c.fails("edit", "echo")
	require.Contains(t, message, "exit status 3")
	require.Contains(t, kept(t, message), "priority: 1")

	withEditor(t, `exit 3`)
	require.Regexp(t, `^editor "sh .*": exit status 3; nothing was stored$`, c.fails("edit", "echo"))
	require.Empty(t, drafts(t), "nothing is lost")
	require.Equal(t, echoRoute, c.ok("get", "echo", "-o", "yaml"))
}

func TestRoute_OfTwoEditorsTheSecondIsRefused(t *testing.T) {
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, echoRoute))
	other := document(t, strings.Replace(echoRoute, "9001", "9002", 1))
	// The second editor of the route works, through a process of its own, while the first is open.
	withEditor(t, fmt.Sprintf(`echo 'priority: 1' >> "$1"; %s=1 '%s' route put -f '%s' --etcd %s --if-revision 2 >&2`, asFramegate, os.Args[0], other, c.endpoint))
	message := c.fails("edit", "echo")
	require.Contains(t, message, "route echo: is at revision 3, want 2: somebody changed it; get it again; your text is in ")
	require.Equal(t, echoRoute+"priority: 1\n", kept(t, message))
	require.Contains(t, c.ok("get", "echo", "-o", "yaml"), "9002")
}

func TestRoute_WrongUsageOfChanges(t *testing.T) {
	t.Parallel()
	good := document(t, echoRoute)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"put", "-f", good, "--if-revision", "-1"}, "--if-revision: -1, want a revision as in route list"},
		{[]string{"delete", "echo", "--if-revision", "-1"}, "--if-revision: -1, want a revision"},
		{[]string{"rollback", "echo", "--to", "0"}, "--to: 0, want a revision as in route history"},
		{[]string{"rollback"}, "route rollback: arguments [], want the NAME of one route"},
		{[]string{"history", "a", "b"}, `route history: arguments ["a" "b"], want the NAME of one route`},
		{[]string{"edit"}, "route edit: arguments [], want the NAME of one route"},
		{[]string{"edit", "a", "-o", "xml"}, `-o: "xml", want table, json or yaml`},
		{[]string{"validate", "-f", good, "-o", "xml"}, `-o: "xml", want table, json or yaml`},
	} {
		_, _, code, err := runRoute(t, "", c.args...)
		require.ErrorContains(t, err, c.want)
		require.Equal(t, exitUsage, code, c.args)
	}
}
