package mirror

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/mirror/tape"
	"github.com/framegate/framegate/resolver/spec"
)

// A recording says how many messages it lacks, also if they were left out before it began; and holds nothing when it is over.
func TestRecording_CountsWhatItLacks(t *testing.T) {
	t.Parallel()
	m, dir := newTestMirror(t, 1<<20), t.TempDir()
	m.doc.Record = &spec.Record{Path: dir}
	out := tape.Open(tape.ConfigOf("r", m.doc, nil))
	r := recorder{out}.begin(m, testCall())
	r.miss(DroppedTooLong)
	r.take(frame.Message{Payload: make([]byte, 600)})
	r.take(frame.Message{Payload: make([]byte, 600)}) // has no room before the metadata is known
	require.EqualValues(t, 605, m.registry.bytes.Load())
	r.start(false)
	require.Zero(t, m.registry.bytes.Load())
	r.take(frame.Message{Payload: []byte("last")})
	r.finish(true)
	r.answers().End(status.New(0, ""), nil)
	out.Close(t.Context())

	files, err := filepath.Glob(filepath.Join(dir, "*"+tape.Suffix))
	require.NoError(t, err)
	require.Len(t, files, 1)
	f, err := os.Open(files[0])
	require.NoError(t, err)
	defer f.Close()
	from, err := tape.NewReader(f)
	require.NoError(t, err)
	var lengths []int
	for {
		e, err := from.Next()
		require.NoError(t, err)
		if e.Message != nil {
			lengths = append(lengths, len(e.Message.Payload))
		}
		if e.End != nil {
			require.EqualValues(t, 2, e.End.Lost)
			break
		}
	}
	require.Equal(t, []int{600, 4}, lengths)
	require.Equal(t, map[Dropped]int64{DroppedTooLong: 1, DroppedFull: 1}, m.dropped)
}

// A call that ends before its metadata is known leaves nothing behind.
func TestRecording_OfACallThatNeverStarts(t *testing.T) {
	t.Parallel()
	m := newTestMirror(t, 1<<20)
	m.doc.Record = &spec.Record{Path: t.TempDir()}
	out := tape.Open(tape.ConfigOf("r", m.doc, nil))
	defer out.Close(t.Context())
	r := recorder{out}.begin(m, testCall())
	r.take(frame.Message{Payload: make([]byte, 600)})
	r.finish(false)
	require.Zero(t, m.registry.bytes.Load())
	require.Zero(t, m.calls.Load())
}
