package accesslog

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const limit = 10 * time.Second

// logTo returns a log of all calls in a file, and its path.
func logTo(t *testing.T, said *sink) (*Log, *Output, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	target, err := Open(path)
	require.NoError(t, err)
	out := NewOutput(target)
	l := New(out, Config{Sample: 1, Log: slog.New(slog.NewJSONHandler(said, nil))})
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		require.NoError(t, out.Close())
	})
	return l, out, path
}

func linesIn(path string) int {
	content, _ := os.ReadFile(path)
	return strings.Count(string(content), "\n")
}

// logged logs a call and returns when there are n lines in the file.
func logged(t *testing.T, l *Log, path string, n int) {
	t.Helper()
	l.CallEnded(ok())
	require.Eventually(t, func() bool { return linesIn(path) == n }, limit, time.Millisecond)
}

func TestOutput_ReopenGoesOnInANewFile(t *testing.T) {
	t.Parallel()
	var said sink
	l, out, path := logTo(t, &said)
	logged(t, l, path, 1)
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, out.Reopen())
	logged(t, l, path, 1)
	require.Equal(t, 1, linesIn(path+".1"))
	require.NoError(t, out.Reopen(), "nothing was renamed")
	logged(t, l, path, 2)
}

func TestOutput_AFileThatIsRenamedOrRemovedIsNoticed(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(path string) error{
		"renamed":  func(path string) error { return os.Rename(path, path+".1") },
		"removed":  os.Remove,
		"replaced": func(path string) error { return os.Rename(path+".new", path) }, // as logrotate's create does
	} {
		t.Run(name, func(t *testing.T) {
			var said sink
			l, _, path := logTo(t, &said)
			logged(t, l, path, 1)
			require.NoError(t, os.WriteFile(path+".new", nil, 0o600))
			require.NoError(t, away(path))
			require.Eventually(t, func() bool { return said.Count("access log opened again") == 1 }, limit, time.Millisecond, "without a call")
			logged(t, l, path, 1)
			require.Zero(t, l.Dropped())
		})
	}
}

func TestOutput_WhatCannotBeOpenedAgainLosesNothing(t *testing.T) {
	t.Parallel()
	var said sink
	l, out, path := logTo(t, &said)
	logged(t, l, path, 1)
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, os.Mkdir(path, 0o700))
	require.ErrorContains(t, out.Reopen(), "want a regular file")
	require.Eventually(t, func() bool { return said.Count("access log cannot be opened again") > 0 }, limit, time.Millisecond)
	logged(t, l, path+".1", 2)
	require.NoError(t, os.Remove(path))
	require.Eventually(t, func() bool { return said.Count("access log opened again") == 1 }, limit, time.Millisecond)
	logged(t, l, path, 1)
	require.Zero(t, l.Dropped())
}

func TestOutput_WhatCannotBeOpenedAgainIsSaidOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "access.log")
	target, err := Open(path)
	require.NoError(t, err)
	out := NewOutput(target)
	defer out.Close()
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	var said sink
	for range 5 {
		out.Follow(slog.New(slog.NewJSONHandler(&said, nil)))
	}
	require.Equal(t, 1, said.Count("access log cannot be opened again"))
}

func TestOutput_UseAndChooseChangeWhereAndWhat(t *testing.T) {
	t.Parallel()
	var said sink
	l, out, path := logTo(t, &said)
	logged(t, l, path, 1)
	other, err := Open(path + ".other")
	require.NoError(t, err)
	out.Use(other)
	logged(t, l, path+".other", 1)
	l.Choose(Choice{})
	l.CallEnded(ok())
	l.Choose(Choice{Sample: 1})
	logged(t, l, path+".other", 2)
	out.Use(nil)
	require.NoError(t, out.Reopen())
	l.CallEnded(ok())
	require.NoError(t, l.Close())
	require.Equal(t, []int{1, 2}, []int{linesIn(path), linesIn(path + ".other")})
	require.Zero(t, l.Dropped())
}

func TestOutput_NoLineIsLostWhileItIsOpenedAgain(t *testing.T) {
	t.Parallel()
	var said sink
	l, out, path := logTo(t, &said)
	const calls, rotations = 20_000, 200
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range calls / 4 {
				l.CallEnded(ok())
			}
		})
	}
	names := []string{path}
	for i := range rotations {
		name := path + strings.Repeat("x", i+1)
		require.NoError(t, os.Rename(path, name))
		names = append(names, name)
		require.NoError(t, out.Reopen())
	}
	callers.Wait()
	require.NoError(t, l.Close())
	written := 0
	for _, name := range names {
		written += linesIn(name)
	}
	require.EqualValues(t, calls, int64(written)+l.Dropped())
	require.NotContains(t, said.String(), "closed")
}

func TestOutput_StandardStreamsAreNeverClosed(t *testing.T) {
	t.Parallel()
	for _, path := range []string{Stdout, Stderr} {
		target, err := Open(path)
		require.NoError(t, err)
		out := NewOutput(target)
		require.NoError(t, out.Reopen())
		out.Follow(slog.New(slog.DiscardHandler))
		out.Use(nil)
		require.NoError(t, out.Close())
	}
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		_, err := f.Stat()
		require.NoError(t, err)
	}
}
