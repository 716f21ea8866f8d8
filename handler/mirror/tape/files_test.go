package tape

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// recordOne records a call with one message of that many bytes, and waits until it is written.
func recordOne(t *testing.T, r *Recorder, id string, length int) {
	t.Helper()
	before := r.Stats().Written
	take, ok := r.Begin(Call{ID: id, Method: "/a.B/C", Began: time.Now()})
	require.True(t, ok)
	require.True(t, take.Message(false, false, make([]byte, length)))
	take.End(Answer{})
	require.Eventually(t, func() bool { return r.Stats().Written == before+3 }, 10*time.Second, time.Millisecond)
}

// callsIn returns the IDs of the calls that began in the recordings of a folder.
func callsIn(t *testing.T, dir string) (ids []string) {
	t.Helper()
	all, torn := readAll(t, dir)
	require.Zero(t, torn)
	for _, e := range all {
		if e.Call != nil {
			ids = append(ids, e.Call.Call)
		}
	}
	return ids
}

// Where files go that are removed, such as by a person who clears the folder, nobody would look: the next entry begins another one.
func TestRecorder_BeginsAnewWhenItsFileIsGone(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(dir string) error{
		"the folder": os.RemoveAll,
		"the file": func(dir string) error {
			files, err := filepath.Glob(filepath.Join(dir, "*"+Suffix))
			if err != nil {
				return err
			}
			return os.Remove(files[0])
		},
		"another folder there": func(dir string) error {
			if err := os.Rename(dir, dir+".old"); err != nil {
				return err
			}
			return os.Mkdir(dir, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "tapes")
			r := Open(configOf(dir))
			recordOne(t, r, "before", 10)
			require.NoError(t, remove(dir))
			recordOne(t, r, "after", 10)
			closed(t, r)
			require.Equal(t, []string{"after"}, callsIn(t, dir))
		})
	}
}

// Two recorders may write to one folder, as framegate and the one that takes over from it do: neither removes the file that the other
// writes to.
func TestRecorder_LeavesWhatAnotherWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := configOf(dir)
	cfg.MaxBytes = 64 << 10
	quiet, busy := Open(cfg), Open(cfg)
	recordOne(t, quiet, "first", 10)
	for i := range 40 {
		recordOne(t, busy, fmt.Sprint(i), 6000)
	}
	recordOne(t, quiet, "last", 10)
	require.LessOrEqual(t, sizeOf(t, dir), cfg.MaxBytes+16<<10)
	ids := callsIn(t, dir)
	require.Contains(t, ids, "first")
	require.Contains(t, ids, "last")
	require.NotContains(t, ids, "0", "the oldest of the others went")
	closed(t, quiet)
	for i := range 40 {
		recordOne(t, busy, fmt.Sprint("more", i), 6000)
	}
	closed(t, busy)
	require.NotContains(t, callsIn(t, dir), "last", "nobody writes to its file any more")
	require.LessOrEqual(t, sizeOf(t, dir), cfg.MaxBytes)
}
