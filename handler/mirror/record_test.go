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

// A recording says how many messages it lacks, also if they were left out before it began.
func TestRecording_CountsWhatItLacks(t *testing.T) {
	t.Parallel()
	m, dir := newTestMirror(t, 1<<20), t.TempDir()
	m.doc.Record, m.selection = &spec.Record{Path: dir}, new(Selection) // of all messages, each of which may begin it
	out := tape.Open(tape.ConfigOf("r", m.doc, nil))
	r := recorder{out}.begin(m, testCall())
	r.miss(DroppedTooLong)
	r.take(frame.Message{Payload: []byte("one")})
	r.miss(DroppedTooLong)
	r.take(frame.Message{Payload: []byte("more")})
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
	require.Equal(t, []int{3, 4}, lengths)
	require.Equal(t, map[Dropped]int64{DroppedTooLong: 2}, m.dropped)
}
