package filesource

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/testlog"
)

const testInterval = 20 * time.Millisecond

func fileDoc(names ...string) string {
	doc := "routes:\n"
	for _, n := range names {
		doc += fmt.Sprintf("- {name: %s, match: [{method: /a.S/%s}], backends: [{endpoints: [{address: \"h:1\"}]}]}\n", n, n)
	}
	return doc
}

// write replaces the file in place, as an editor may.
func write(t *testing.T, path, doc string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(doc), 0o600))
}

// runFile opens the file and runs its source until the test ends.
func runFile(t *testing.T, path string) (*resolver.Resolver, *Source, *testlog.Buffer) {
	t.Helper()
	r, log := resolver.New(), &testlog.Buffer{}
	f, err := open(t.Context(), path, r, nil, log.Logger())
	require.NoError(t, err)
	f.SetInterval(testInterval)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	return r, f, log
}

func TestFile_ReplacesItsRoutesWhenItChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, fileDoc("a", "b"))
	r, f, log := runFile(t, path)
	require.Len(t, r.Routes(), 2, "in force when OpenFile returns")
	loaded := f.Status().Confirmed

	write(t, path, fileDoc("b", "c"))
	took := etcdtest.Eventually(t, etcdtest.Soon, "the new routes are in force", resolvertest.Resolves(r, "/a.S/c", "c"))
	t.Logf("live after %s with a look every %s", took, testInterval)
	require.True(t, resolvertest.Resolves(r, "/a.S/a", "")(), "a route that is not in the file any more goes")
	require.True(t, resolvertest.Resolves(r, "/a.S/b", "b")())
	require.True(t, f.Status().Confirmed.After(loaded))
	require.Empty(t, f.Status().Reason)

	write(t, path, "routes: []\n")
	etcdtest.Eventually(t, etcdtest.Soon, "no route is left", func() bool { return len(r.Routes()) == 0 })
	require.Zero(t, log.Count("level=ERROR"))
}

func TestFile_NoticesAChangeThatLeavesSizeAndTime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, fileDoc("a"))
	r, _, _ := runFile(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	write(t, path, fileDoc("b"))
	require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	etcdtest.Eventually(t, etcdtest.Soon, "the new routes are in force", resolvertest.Resolves(r, "/a.S/b", "b"))
}

func TestFile_BadContentKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "routes.yaml")
	good := fileDoc("a")
	write(t, path, good)
	r, f, log := runFile(t, path)

	const bad = "file is bad; the routes of its last good content stay"
	for i, doc := range []string{fileDoc("a") + "- {name: Bad}\n", "", "routes:\n- {colour: red}\n", "name: ["} {
		write(t, path, doc)
		etcdtest.Eventually(t, etcdtest.Soon, "the bad content is logged", func() bool { return log.Count(bad) == i+1 })
		require.True(t, resolvertest.Resolves(r, "/a.S/a", "a")())
		require.Contains(t, f.Status().Reason, path)
	}
	require.Equal(t, 1, log.Count(path+": line 2: routes[0].colour: unknown key"))

	now := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(path, now, now))
	etcdtest.Eventually(t, etcdtest.Soon, "the source has looked", func() bool { return f.Status().Stale })
	write(t, path, good)
	etcdtest.Eventually(t, etcdtest.Soon, "the good content is in force again", func() bool { return !f.Status().Stale })
	require.Equal(t, 4, log.Count(bad), "each bad content is logged once")
}

func TestFile_SurvivesThatTheFileVanishes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, fileDoc("a"))
	r, f, log := runFile(t, path)

	require.NoError(t, os.Remove(path))
	etcdtest.Eventually(t, etcdtest.Soon, "the file is missed", func() bool { return log.Count("routes file is gone") == 1 })
	require.Contains(t, f.Status().Reason, "no such file")
	require.NoError(t, os.Mkdir(path, 0o700))
	etcdtest.Eventually(t, etcdtest.Soon, "a directory is no file", func() bool { return log.Count("cannot be read") == 1 })
	require.True(t, resolvertest.Resolves(r, "/a.S/a", "a")())

	require.NoError(t, os.Remove(path))
	write(t, path, fileDoc("b"))
	etcdtest.Eventually(t, etcdtest.Soon, "the new file is in force", resolvertest.Resolves(r, "/a.S/b", "b"))
	etcdtest.Eventually(t, etcdtest.Soon, "and known to be", func() bool { return f.Status().Reason == "" })
	require.Equal(t, 1, log.Count("can be read again"))
}

// Kubernetes mounts a ConfigMap as routes.yaml -> ..data/routes.yaml with ..data -> a directory, and swaps ..data.
func TestFile_FollowsASymlinkSwap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version := func(n int, doc string) {
		at := filepath.Join(dir, fmt.Sprintf("..v%d", n))
		require.NoError(t, os.Mkdir(at, 0o700))
		write(t, filepath.Join(at, "routes.yaml"), doc)
		// As old as the first: neither size nor time tells.
		old := time.Unix(1_700_000_000, 0)
		require.NoError(t, os.Chtimes(filepath.Join(at, "routes.yaml"), old, old))
		require.NoError(t, os.Symlink(filepath.Base(at), filepath.Join(dir, "..tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	version(1, fileDoc("a"))
	path := filepath.Join(dir, "routes.yaml")
	require.NoError(t, os.Symlink(filepath.Join("..data", "routes.yaml"), path))
	r, _, _ := runFile(t, path)
	require.True(t, resolvertest.Resolves(r, "/a.S/a", "a")())
	version(2, fileDoc("b"))
	etcdtest.Eventually(t, etcdtest.Soon, "the other file is in force", resolvertest.Resolves(r, "/a.S/b", "b"))
	require.Len(t, r.Routes(), 1)
}

// The beginning of a list of routes is a valid list.
func TestFile_WaitsForAWriterToFinish(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "routes.yaml")
	write(t, path, fileDoc("a"))
	r, _, log := runFile(t, path)
	for i := 0; ; i++ {
		require.Less(t, i, 30, "no machine on which a file can be written without a pause")
		first, last := fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i)
		write(t, path, fileDoc(first))
		etcdtest.Eventually(t, etcdtest.Soon, "the first content is in force", resolvertest.Resolves(r, "/a.S/"+first, first))
		bad := log.Count("level=ERROR")
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		require.NoError(t, err)
		stays, longest, before := true, time.Duration(0), time.Now()
		for _, c := range []byte(fileDoc(first, last)) {
			_, err = file.Write([]byte{c})
			require.NoError(t, err)
			now := time.Now()
			longest, before = max(longest, now.Sub(before)), now
			stays = stays && resolvertest.Resolves(r, "/a.S/"+first, first)()
			time.Sleep(3 * time.Millisecond) // the writer is slow
		}
		require.NoError(t, file.Close())
		etcdtest.Eventually(t, etcdtest.Soon, "the whole file is in force", resolvertest.Resolves(r, "/a.S/"+last, last))
		if longest < settle*3/4 { // or it was not the writer that was slow
			require.True(t, stays)
			require.Equal(t, bad, log.Count("level=ERROR"))
			return
		}
	}
}

func TestOpenFile_NamesFileLineAndKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.yaml")
	open := func() error {
		_, err := open(t.Context(), path, resolver.New(), nil, (&testlog.Buffer{}).Logger())
		return err
	}
	require.ErrorContains(t, open(), "stat "+path+": no such file")
	write(t, path, "routes:\n- name: a\n  colour: red\n")
	require.ErrorContains(t, open(), path+": line 3: routes[0].colour: unknown key")
	write(t, path, "# nothing\n")
	require.ErrorContains(t, open(), path+": empty, want a route or routes: [...]")

	path = dir
	require.ErrorContains(t, open(), path+": want a regular file")
	path = filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	require.ErrorContains(t, open(), "want a regular file", "opening it would wait for a writer")
}

// open loads a file, as Load does, and puts its routes in force, as Apply does.
func open(ctx context.Context, path string, r *resolver.Resolver, compile resolver.Compiler, log *slog.Logger) (*Source, error) {
	f, err := Load(ctx, path, r, compile, log)
	if err == nil {
		f.Apply()
	}
	return f, err
}
