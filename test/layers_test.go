package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/framegate/framegate/"

// layers lists the packages from the bottom up: a package imports only those above it in this list, and its own
// subpackages.
var layers = [][]string{
	{"kitex_gen", "idl", "pool/dial"},
	{"resolver", "pool"},
	{"handler", "relay"},
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
		for _, imp := range pkg.Imports {
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
