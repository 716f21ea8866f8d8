package tape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	v1 "github.com/framegate/framegate/kitex_gen/framegate/v1"
	"github.com/framegate/framegate/resolver/spec"
)

// recordInto is the environment variable that makes the test's process record into that directory until it is killed.
const recordInto = "TEST_TAPE_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(recordInto); dir != "" {
		recordForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

func recordForEver(dir string) {
	r := Open(configOf(dir))
	payload := bytes.Repeat([]byte("x"), 5000)
	for i := 0; ; i++ {
		t, ok := r.Begin(Call{ID: fmt.Sprint(i), Method: "/a.B/C", Began: time.Now()})
		if !ok {
			time.Sleep(time.Millisecond)
			continue
		}
		for t.Message(false, false, payload[:i%len(payload)]) && i%7 != 0 {
			i++
		}
		t.End(Answer{})
	}
}

func configOf(dir string) Config {
	return Config{Dir: dir, Route: "route", Mirror: "tape", MaxBytes: 1 << 30, Redact: spec.DefaultRedact, Log: slog.New(slog.DiscardHandler)}
}

func closed(t testing.TB, r *Recorder) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r.Close(ctx)
	require.NoError(t, ctx.Err())
}

// readAll reads every entry of the files in a directory, in order.
func readAll(t testing.TB, dir string) (all []*Entry, torn int) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+Suffix))
	require.NoError(t, err)
	for _, name := range files {
		f, err := os.Open(name)
		require.NoError(t, err)
		r, err := NewReader(f)
		require.NoError(t, err, name)
		require.Equal(t, "route tape", r.Header.Route+" "+r.Header.Mirror)
		for {
			e, err := r.Next()
			if errors.Is(err, ErrTorn) {
				torn++
				break
			}
			if err == io.EOF {
				break
			}
			require.NoError(t, err, name)
			all = append(all, e)
		}
		require.NoError(t, f.Close())
	}
	return all, torn
}

func TestRecorder_WritesWhatIsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "it")
	r := Open(configOf(dir))
	began := time.Now()
	take, ok := r.Begin(Call{
		ID: "id", Method: "/a.B/C", Peer: "127.0.0.1:1", Subtype: "proto", Encoding: "gzip", Began: began, Timeout: time.Second,
		Metadata: map[string][]string{"x-a": {"1", "2"}, "authorization": {"secret"}, "x-bin": {"\x00\xff"}},
	})
	require.True(t, ok)
	require.True(t, take.Message(false, true, []byte("request\x00")))
	take.HalfClose()
	require.True(t, take.Message(true, false, nil))
	take.Lose()
	take.End(Answer{Code: 5, Message: "gone", Encoding: "snappy", Headers: map[string][]string{"h": {"1"}}, Trailers: map[string][]string{"cookie": {"secret"}}})
	closed(t, r)
	closed(t, r)

	all, torn := readAll(t, dir)
	require.Zero(t, torn)
	require.Len(t, all, 5)
	c := all[0].Call
	require.Equal(t, "id /a.B/C 127.0.0.1:1 proto gzip", strings.Join([]string{c.Call, c.Method, c.Peer, c.Subtype, c.Encoding}, " "))
	require.Equal(t, began.UnixNano(), c.Time)
	require.EqualValues(t, time.Second, c.Timeout)
	require.Equal(t, map[string]string{"x-a": "1,2", "authorization": spec.Redacted, "x-bin": "\x00\xff"}, textOf(c.Metadata))
	m := all[1].Message
	require.Equal(t, "id false true request\x00", fmt.Sprint(m.Call, " ", m.Response, " ", m.Compressed, " ", string(m.Payload)))
	require.Equal(t, "id", all[2].HalfClose.Call)
	require.True(t, all[3].Message.Response)
	e := all[4].End
	require.Equal(t, "5 gone snappy 1", fmt.Sprint(e.Code, " ", e.Message, " ", e.Encoding, " ", e.Lost))
	require.Equal(t, map[string]string{"h": "1"}, textOf(e.Headers))
	require.Equal(t, map[string]string{"cookie": spec.Redacted}, textOf(e.Trailers))
	require.EqualValues(t, 5, r.Stats().Written)
}

func textOf(fields []*v1.TapeField) map[string]string {
	all := map[string]string{}
	for _, f := range fields {
		all[f.Name] = string(bytes.Join(f.Values, []byte(",")))
	}
	return all
}

// The files of a mirror stay within their bound, by the loss of the oldest; those of others are not touched.
func TestRecorder_BoundsItsFiles(t *testing.T) {
	dir := t.TempDir()
	others := filepath.Join(dir, "route_other_20000101T000000.000000000Z-1"+Suffix)
	require.NoError(t, os.WriteFile(others, []byte("x"), 0o600))
	cfg := configOf(dir)
	cfg.MaxBytes = 128 << 10
	r := Open(cfg)
	last := 0
	for i := range 500 {
		take, ok := r.Begin(Call{ID: fmt.Sprint(i), Method: "/a.B/C", Began: time.Now()})
		for !ok {
			time.Sleep(time.Millisecond)
			take, ok = r.Begin(Call{ID: fmt.Sprint(i), Method: "/a.B/C", Began: time.Now()})
		}
		for !take.Message(false, false, make([]byte, 1000)) {
			time.Sleep(time.Millisecond)
		}
		last = i
		if i%50 == 0 {
			require.LessOrEqual(t, sizeOf(t, dir), cfg.MaxBytes+1)
		}
	}
	closed(t, r)
	require.LessOrEqual(t, sizeOf(t, dir), cfg.MaxBytes+1)
	require.NoError(t, os.Remove(others))
	all, torn := readAll(t, dir)
	require.Zero(t, torn)
	require.Greater(t, len(all), 100)
	require.Equal(t, fmt.Sprint(last), all[len(all)-1].Message.Call, "the newest are kept")
}

func sizeOf(t testing.TB, dir string) (sum int64) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // else it was removed meanwhile
			sum += info.Size()
		}
	}
	return sum
}

// A directory that cannot be written to is told of, holds up nobody, and is used once it can be.
func TestRecorder_SurvivesADirectoryThatIsNone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	var log bytes.Buffer
	cfg := configOf(dir)
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	r := Open(cfg)
	began := time.Now()
	for range 100 {
		if take, ok := r.Begin(Call{ID: "lost"}); ok {
			take.End(Answer{})
		}
	}
	require.Less(t, time.Since(began), 5*time.Second)
	require.Eventually(t, func() bool { return r.Stats().Down }, 10*time.Second, time.Millisecond)
	require.Contains(t, r.Stats().Error, "dir")
	require.NoError(t, os.Remove(dir))
	require.Eventually(t, func() bool {
		if take, ok := r.Begin(Call{ID: "kept"}); ok {
			take.End(Answer{})
		}
		return r.Stats().Written > 0
	}, 10*time.Second, 10*time.Millisecond)
	require.False(t, r.Stats().Down)
	closed(t, r)
	require.Equal(t, 1, strings.Count(log.String(), "calls are not recorded"))
}

func TestRecorder_BoundsItsQueue(t *testing.T) {
	cfg := configOf(t.TempDir())
	cfg.Queue = spec.Queue{Messages: 2}
	r := &Recorder{cfg: cfg, done: make(chan struct{})} // nobody writes
	r.changed.L = &r.mu
	take, ok := r.Begin(Call{ID: "a"})
	require.True(t, ok)
	require.True(t, take.Message(false, false, nil))
	require.False(t, take.Message(false, false, nil))
	_, ok = r.Begin(Call{ID: "b"})
	require.False(t, ok)
	take.End(Answer{}) // has room beyond the bound, and says what was lost
	require.Equal(t, 3, r.Stats().Waiting)
	for range 10 {
		take.End(Answer{})
	}
	require.Equal(t, 4, r.Stats().Waiting, "but not any amount of it")
}

// What was written when the process is killed can be read, but for a torn tail.
func TestRecorder_FilesOutliveAKill(t *testing.T) {
	for i := range 3 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), recordInto+"="+dir)
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool { return sizeOf(t, dir) > int64(1+i)<<20 }, 30*time.Second, time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		all, torn := readAll(t, dir)
		require.LessOrEqual(t, torn, 1)
		require.Greater(t, len(all), 200)
	}
}

func TestReader_TornAndForeignFiles(t *testing.T) {
	dir := t.TempDir()
	r := Open(configOf(dir))
	take, _ := r.Begin(Call{ID: "id", Method: "/a.B/C"})
	take.Message(false, false, []byte("payload"))
	closed(t, r)
	files, err := filepath.Glob(filepath.Join(dir, "*"+Suffix))
	require.NoError(t, err)
	whole, err := os.ReadFile(files[0])
	require.NoError(t, err)
	for n := range whole {
		tr, err := NewReader(bytes.NewReader(whole[:n]))
		if err != nil {
			require.ErrorIs(t, err, ErrNoTape)
			continue
		}
		read := 0
		for {
			_, err = tr.Next()
			if err != nil {
				break
			}
			read++
		}
		require.Less(t, read, 2)
		require.True(t, err == io.EOF || errors.Is(err, ErrTorn), "%v", err)
	}
	for _, foreign := range []string{"", "hello", "\x00", "\x02\x12\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		_, err := NewReader(strings.NewReader(foreign))
		require.ErrorIs(t, err, ErrNoTape)
	}
	later := &v1.TapeEntry{Header: &v1.TapeHeader{Version: 2}}
	body, err := later.Marshal(nil)
	require.NoError(t, err)
	_, err = NewReader(bytes.NewReader(append([]byte{byte(len(body))}, body...)))
	require.EqualError(t, err, "a recording of version 2, want 1")
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("\x06\x0a\x04\x08\x01\x20\x01\x02\x12\x00"))
	f.Add([]byte("\x04\x0a\x02\x08\x01\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := NewReader(bytes.NewReader(in))
		for err == nil {
			_, err = r.Next()
		}
	})
}
