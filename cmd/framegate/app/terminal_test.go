package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/test/testlog"
)

// hostile is text that a terminal acts on, or shows as what it is not.
const hostile = "a\x1b[2J\x7f\u009b31m\u202eb\u2066\u200b\u00a0\U000e0041c\tROUTE\n  d"

// requirePlain wants lines with nothing in them that a terminal acts on.
func requirePlain(t *testing.T, what, out string) {
	t.Helper()
	require.True(t, utf8.ValidString(out), "%s: %q", what, out)
	odd := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
	require.Equal(t, -1, odd, "%s: %q", what, out)
	require.NotRegexp(t, `(?m)^  d`, out, "%s: a line of a stranger's", what)
}

// whatever prints what is in etcd, it prints plain text, and JSON and YAML that mean the same.
func TestTerminal_TextInEtcd(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	cli := c.client()
	put := func(key, doc string) {
		t.Helper()
		_, err := cli.Put(t.Context(), key, doc)
		require.NoError(t, err)
	}
	quoted := strconv.QuoteToASCII(hostile) // YAML has the same escapes
	inJSON, err := json.Marshal(hostile)
	require.NoError(t, err)
	good := fmt.Sprintf(`{name: good, match: [{method: /echo.Echo/*}], mode: struct, schema: {reflection: true},
  backends: [{name: main, service: echo, tags: {%s: %s}}],
  struct: {rules: [{on: request, when: 'metadata["x"] == "%s"', action: reject, status: {code: NOT_FOUND, message: %s}}]}}`,
		quoted, quoted, strings.NewReplacer("\n", `\n`, "\t", " ", "\x1b", " ", "\x7f", "", "\u009b", "").Replace(hostile), quoted)
	put(etcdstore.DefaultPrefix+"/routes/good", good)
	put(etcdstore.DefaultPrefix+"/routes/bad", fmt.Sprintf("{name: bad, %s: 1, match: [{method: %s}]}", quoted, quoted))
	put(etcdstore.DefaultPrefix+"/routes/"+hostile+"\xff", good)
	put(etcdstore.DefaultPrefix+"/routes/none", "\xff"+hostile)
	put(etcdstore.DefaultPrefix+"/schemas/"+hostile+"\xff", hostile)
	put(etcdstore.ServiceKey(etcdstore.DefaultServicePrefix, "echo", "127.0.0.1:1"), fmt.Sprintf(`{"network":"tcp","address":"127.0.0.1:1","weight":1,"tags":{%s:%s}}`, inJSON, inJSON))
	put(etcdstore.ServiceKey(etcdstore.DefaultServicePrefix, "echo", hostile+"\xff"), fmt.Sprintf(`{"network":"tcp","address":%s}`, inJSON))
	put(etcdstore.ServiceKey(etcdstore.DefaultServicePrefix, hostile, "127.0.0.1:2"), `{"network":"tcp","address":"127.0.0.1:2"}`)

	for _, command := range []string{
		"route list", "route get good", "route get bad", "route get none", "route history good", "route history bad", "route explain /echo.Echo/Say", "route rollback bad",
		"service list", "service list echo", "schema list", "schema get none",
	} {
		for _, output := range []string{outputTable, outputJSON, outputYAML} {
			args := append(strings.Fields(command), "-o", output, "--etcd", c.endpoint)
			stdout, stderr, _, err := execute(t.Context(), newRootCommand(), "", args...)
			what := command + " -o " + output
			requirePlain(t, what, stdout)
			requirePlain(t, what+": stderr", stderr)
			if err != nil {
				requirePlain(t, what+": error", oneLine(err))
				require.False(t, strings.HasSuffix(command, "good") || strings.HasSuffix(command, "list"), "%s: %v", what, err)
				continue
			}
			var v any
			switch output {
			case outputJSON:
				require.NoError(t, json.Unmarshal([]byte(stdout), &v), what)
			case outputYAML:
				require.NoError(t, yaml.Unmarshal([]byte(stdout), &v), what)
			default:
				continue
			}
			if command == "route get good" && output != outputTable || command == "service list echo" {
				require.Contains(t, fmt.Sprint(v), hostile, "%s: the same text", what)
			}
		}
	}
	doc := writeFile(t, fmt.Sprintf("{name: bad, %s: 1, match: [{method: %s}]}", quoted, quoted))
	_, _, _, err = execute(t.Context(), newRootCommand(), "", "route", "put", "-f", doc, "--etcd", c.endpoint)
	require.Error(t, err)
	requirePlain(t, "route put", oneLine(err))
	require.Contains(t, oneLine(err), `\u202e`)
}

// An admin server may be anybody's, and shows what peers send.
func TestTerminal_TextOfAnAdminServer(t *testing.T) {
	t.Parallel()
	quoted := strconv.Quote(hostile)
	doc, err := json.Marshal(hostile)
	require.NoError(t, err)
	raw := string(doc) // JSON has DEL, C1 and direction marks as they are
	answers := map[string]string{
		"/v1/tap": fmt.Sprintf(`{"time":"2026-01-02T03:04:05Z","method":%[1]s,"peer":%[1]s,"direction":"request","message":{"m":%[1]s}}`+"\n"+
			`{"method":%[1]s,"reason":%[1]s,"payload":"AAA="}`+"\n"+`{"reason":%[1]s}`+"\n", raw),
		"/v1/endpoints": fmt.Sprintf(`{"groups":[{"service":%[1]s,"tags":%[1]s,"endpoints":[{"address":%[1]s,"state":%[1]s},{"address":"a","state":"unreachable","connect_error":%[1]s},{"address":"a","state":"unhealthy","health_error":%[1]s}]},
			{"route":%[1]s,"backend":%[1]s,"endpoints":[]}]}`, raw),
		"/v1/explain": fmt.Sprintf(`{"route":%[1]s,"chosen":{"route":%[1]s,"match":%[1]s},"backends":[%[1]s],"mode":%[1]s,"schema":%[1]s,"rules":[%[1]s],"target":{"backend":%[1]s,"address":%[1]s},
			"stronger":[{"route":%[1]s,"match":%[1]s,"reason":%[1]s}]}`, raw),
	}
	broken := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken {
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, `{"error":{"reason":%[1]s,"message":%[1]s}}`, raw)
			return
		}
		fmt.Fprint(w, answers[r.URL.Path])
	}))
	defer server.Close()
	for _, broken = range []bool{false, true} {
		for _, command := range []string{
			"tap * --count 3", "tap * --count 3 --json", "endpoint list", "endpoint list -o json", "endpoint list -o yaml",
			"route explain /a.B/C", "route explain /a.B/C -o json", "route explain /a.B/C -o yaml",
		} {
			stdout, stderr, _, err := execute(t.Context(), newRootCommand(), "", append(strings.Fields(command), "--admin", server.URL)...)
			requirePlain(t, command, stdout)
			requirePlain(t, command+": stderr", stderr)
			if broken {
				require.Error(t, err, command)
				requirePlain(t, command+": error", oneLine(err))
				continue
			}
			require.NoError(t, err, command)
			require.Regexp(t, `202e|202E`, stdout, command)
			if strings.HasPrefix(command, "endpoint list") && !strings.Contains(command, "-o") {
				require.Contains(t, stdout, "cannot connect: "+quoted)
			}
		}
	}
}

// What is said of a command line that somebody else wrote is plain too.
func TestTerminal_Arguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{hostile}, {"route", "get", hostile}, {"--" + hostile}, {"route", "list", "-o", hostile}, {"serve", "--config", hostile}, {"route", "put", "-f", hostile}} {
		_, stderr, code := runHere(t, args...)
		require.NotZero(t, code)
		requirePlain(t, fmt.Sprint(args), stderr)
	}
}

// The server's own log has what peers and etcd say in messages, values, keys and errors.
func TestTerminal_ServerLog(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		var out testlog.Buffer
		log := slog.New(newServerLog(conf.Log{Level: "info", Format: format}, &out))
		log.Info(hostile, "value", hostile, "odd", "a\x7fb", "bytes", []byte(hostile), "invalid", "\xff\x9b", "error", errors.New(hostile), "time", time.Time{})
		log.With(slog.Group(hostile, hostile, hostile)).Warn("odd\x7f")
		requirePlain(t, format, out.String())
		require.Equal(t, 2, strings.Count(out.String(), "\n"), "a line each")
		if format == "json" {
			var line map[string]any
			first, _, _ := strings.Cut(out.String(), "\n")
			require.NoError(t, json.Unmarshal([]byte(first), &line))
			require.Equal(t, hostile, line["value"])
		}
	}
}
