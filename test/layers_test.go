package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/framegate/framegate/"

// layers lists the packages from the bottom up: a package imports only those in layers above its own in this list, and those
// of its own room, which is the longest path here that it is under.
var layers = [][]string{
	{"kitex_gen", "idl", "resolver/fieldpath", "pool/dial", "pool/policy", "relay/h2/hpack", "resolver/strict", "resolver/plain"},
	{"pool/transport", "relay/h2", "resolver/balance", "resolver/dns", "resolver/eject", "resolver/health", "resolver/limit", "resolver/schema", "resolver/etcdserver"},
	{"pool", "pool/h2conn", "resolver/spec"},
	{"pool/kitexconn"},
	{"resolver/match", "resolver/cluster"},
	{"resolver"},
	{"handler/budget", "handler/stream", "handler/workers", "handler/structmode/compress", "handler/structmode/reflection", "handler/structmode/rule", "handler/acceptor"},
	{"handler/transserver"},
	{"handler/local", "handler/buffer"},
	{"handler/frame"},
	{"handler/kitexstream", "handler/structmode", "handler/tap", "handler/leg"},
	{"handler/mirror/tape", "handler/mirror/sink"},
	{"handler/mirror", "handler/fanout"},
	{"handler/header"},
	{"handler"},
	{"relay"},
	{"resolver/etcdclient"},
	{"resolver/etcdstore"},
	{"resolver/etcdsource", "resolver/filesource"},
	{"admin"},
	{"conf"},
	{"cmd"},
	{"test", "script"},
}

func layerOf(path string) (level int, root string) {
	best := ""
	for i, l := range layers {
		for _, p := range l {
			if (path == p || strings.HasPrefix(path, p+"/")) && len(p) > len(best) {
				level, best = i, p
			}
		}
	}
	return level, best
}

func TestLayers_ImportsPointOneWay(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	require.NoError(t, err)
	kitexTypes := regexp.MustCompile(`^github\.com/cloudwego/kitex/pkg/remote/trans/nphttp2(/grpc)?$`)
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		from := strings.TrimPrefix(pkg.ImportPath, module)
		level, root := layerOf(from)
		require.NotEmpty(t, root, "%s is in no layer", from)
		ofKitex := root == "handler/kitexstream" || root == "handler/transserver"
		for _, imp := range pkg.Imports {
			if strings.HasPrefix(from, "handler") && !ofKitex { // it sees streams of any transport
				require.NotRegexp(t, kitexTypes, imp, "imported by %s", from)
			}
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			toLevel, toRoot := layerOf(to)
			require.True(t, toRoot == root || toLevel < level, "%s imports %s", from, to)
		}
	}
	require.Greater(t, seen, 10)
}

// The pool works with connections of any transport.
func TestLayers_PoolDoesWithoutKitex(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", module+"pool", module+"pool/transport").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), module+"pool/policy\n")
	require.NotContains(t, string(out), "github.com/cloudwego/")
}

// What a call goes through knows nothing of etcd.
func TestLayers_CallsDoWithoutEtcd(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", module+"handler/...", module+"resolver", module+"pool/...").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), module+"resolver/cluster\n")
	for dep := range strings.Lines(string(out)) {
		require.NotContains(t, dep, "go.etcd.io/")
		require.NotContains(t, dep, "/etcd")
	}
}
