package replay

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/mirror"
	v1 "github.com/framegate/framegate/kitex_gen/framegate/v1"
	"github.com/framegate/framegate/resolver/spec"
)

// call is a recorded call that is made again. Its recording comes entry by entry while it is under way.
type call struct {
	run    *run
	doc    *v1.TapeCall
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   *io.PipeReader
	out    *io.PipeWriter
	ended  chan struct{} // closed when the recording of the call has ended
	place  place         // of slots

	mu       sync.Mutex // guards the fields below
	changed  sync.Cond  // signals changes of them; its lock is mu
	sending  []*v1.TapeMessage
	closed   bool // no message follows in sending
	writing  bool // messages that were taken from sending are not written yet
	got      int  // messages of the answer
	expected []*v1.TapeMessage
	last     *v1.TapeEnd // nil if the recording is cut off
}

func newCall(r *run, doc *v1.TapeCall) *call {
	c := &call{run: r, doc: doc, ended: make(chan struct{})}
	c.changed.L = &c.mu
	c.ctx, c.cancel = context.WithCancelCause(r.ctx)
	c.body, c.out = io.Pipe()
	// While the transport waits for more of the request, it does not see that the context has ended.
	context.AfterFunc(c.ctx, func() {
		_ = c.body.CloseWithError(context.Cause(c.ctx))
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	return c
}

func (c *call) send(m *v1.TapeMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending = append(c.sending, m)
	c.changed.Broadcast()
}

func (c *call) halfClose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed.Broadcast()
}

func (c *call) expect(m *v1.TapeMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expected = append(c.expected, m)
}

// errGone ends a call whose client had left it.
var errGone = errors.New("the client had canceled the call")

// end says how the recorded call ended.
func (c *call) end(e *v1.TapeEnd) {
	c.mu.Lock()
	c.last = e
	gone := e.Code == uint32(codes.Canceled) && !c.closed
	c.mu.Unlock()
	close(c.ended)
	if gone {
		c.run.work.Go(c.leave)
	}
}

// leave cancels the call as its client had done: when as much of it has happened as had then.
func (c *call) leave() {
	c.mu.Lock()
	for c.ctx.Err() == nil && (len(c.sending) > 0 || c.writing || c.got < len(c.expected)) {
		c.changed.Wait()
	}
	c.mu.Unlock()
	c.cancel(errGone)
}

// cut says that the recording ends before the call.
func (c *call) cut() {
	close(c.ended)
	c.cancel(errGone)
}

// make makes the call and adds what comes of it to the results.
func (c *call) make() {
	defer c.cancel(nil)
	var sender sync.WaitGroup
	sender.Go(c.write)
	got := c.receive()
	_ = c.body.CloseWithError(io.ErrClosedPipe) // ends write
	c.halfClose()
	sender.Wait()
	select {
	case <-c.ended:
	case <-c.run.ctx.Done():
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		return // it counts as unfinished
	}
	now := local.CodeName(got.code)
	if errors.Is(context.Cause(c.ctx), errGone) {
		now = local.CodeName(codes.Canceled)
	}
	recorded := local.CodeName(codes.Code(c.last.Code))
	c.run.results.add(recorded, now, c.last.Lost > 0, c.compare(recorded, now, got))
}

// write sends the messages of the request as they come.
func (c *call) write() {
	for {
		c.mu.Lock()
		for len(c.sending) == 0 && !c.closed {
			c.changed.Wait()
		}
		batch := c.sending
		c.sending, c.writing = nil, true
		over := c.closed
		c.mu.Unlock()
		for _, m := range batch {
			one := frame.Message{Payload: m.Payload}
			if m.Compressed {
				one.Flag = 1
			}
			prefix := frame.PrefixOf(one)
			if _, err := c.out.Write(append(prefix[:], one.Payload...)); err != nil {
				return // the call has ended
			}
		}
		if over {
			_ = c.out.Close()
			return
		}
		c.mu.Lock()
		c.writing = false
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

// received is the answer to a call.
type received struct {
	code     codes.Code
	text     string
	messages []frame.Message
	trailers http.Header
}

// receive makes the request and reads the answer.
func (c *call) receive() (got received) {
	ctx := c.ctx
	if c.doc.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.doc.Timeout))
		defer cancel()
	}
	go func() { // ends with the call's context, which make cancels
		select {
		case <-c.ended:
			select {
			case <-time.After(c.run.cfg.Timeout):
				c.cancel(context.DeadlineExceeded)
			case <-c.ctx.Done():
			}
		case <-c.ctx.Done():
		}
	}()
	resp, err := c.run.transport.RoundTrip(c.request(ctx))
	if err != nil {
		return received{code: codeOf(ctx), text: err.Error()}
	}
	defer resp.Body.Close()
	for {
		var prefix [frame.PrefixLen]byte
		if _, err = io.ReadFull(resp.Body, prefix[:]); err != nil {
			break
		}
		payload, err := io.ReadAll(io.LimitReader(resp.Body, int64(binary.BigEndian.Uint32(prefix[1:]))))
		if err != nil {
			return received{code: codeOf(ctx), text: err.Error(), messages: got.messages}
		}
		got.messages = append(got.messages, frame.Message{Flag: prefix[0], Payload: payload})
		c.mu.Lock()
		c.got++
		c.changed.Broadcast()
		c.mu.Unlock()
	}
	if !errors.Is(err, io.EOF) {
		return received{code: codeOf(ctx), text: err.Error(), messages: got.messages}
	}
	got.trailers = resp.Trailer
	text := resp.Trailer.Get("grpc-status")
	if text == "" {
		text, got.trailers = resp.Header.Get("grpc-status"), resp.Header // trailers only
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return received{code: codes.Unknown, text: fmt.Sprintf("HTTP status %d, grpc-status %q", resp.StatusCode, text), messages: got.messages}
	}
	got.code, got.text = codes.Code(n), got.trailers.Get("grpc-message")
	return got
}

// codeOf returns the code of a call that failed.
func codeOf(ctx context.Context) codes.Code {
	switch {
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case ctx.Err() != nil:
		return codes.Canceled
	}
	return codes.Unavailable
}

// request returns the request of the call, as it was recorded.
func (c *call) request(ctx context.Context) *http.Request {
	h := http.Header{"Te": {"trailers"}, "Content-Type": {"application/grpc"}}
	if c.doc.Subtype != "" {
		h.Set("Content-Type", "application/grpc+"+c.doc.Subtype)
	}
	if c.doc.Encoding != "" {
		h.Set("Grpc-Encoding", c.doc.Encoding)
	}
	if c.doc.Timeout > 0 {
		h.Set("Grpc-Timeout", strconv.FormatInt(min(c.doc.Timeout/1000, 99_999_999), 10)+"u")
	}
	host := c.run.cfg.Target
	for _, f := range c.doc.Metadata {
		if f.Name == ":authority" && len(f.Values) > 0 {
			host = string(f.Values[0])
		}
		if !forwards(f.Name) {
			continue
		}
		for _, v := range f.Values {
			value := string(v)
			switch {
			case value == spec.Redacted:
				continue
			case strings.HasSuffix(f.Name, "-bin"):
				value = base64.RawStdEncoding.EncodeToString(v)
			}
			h[http.CanonicalHeaderKey(f.Name)] = append(h[http.CanonicalHeaderKey(f.Name)], value)
		}
	}
	r := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: c.run.cfg.Target, Opaque: c.doc.Method}, Host: host, Header: h, Body: c.body,
		ContentLength: -1, ProtoMajor: 2,
	}
	return r.WithContext(ctx)
}

// own are names of fields that are of a connection, or that a call that is made again has of its own.
var own = []string{"te", "via", "host", "content-type", "content-length", "connection", "transfer-encoding", mirror.Header}

// forwards reports whether recorded metadata is sent again.
func forwards(name string) bool {
	return !strings.HasPrefix(name, ":") && (!strings.HasPrefix(name, "grpc-") || name == "grpc-accept-encoding") && !slices.Contains(own, name)
}

// compare returns how the answer differs from the recorded one, or nil.
func (c *call) compare(recorded, now string, got received) *Difference {
	d := Difference{Call: c.doc.Call, Method: c.doc.Method}
	set := func(what, recorded, now string) *Difference {
		d.What, d.Recorded, d.Now = what, recorded, now
		return &d
	}
	if recorded != now {
		if got.text != "" {
			now += ": " + got.text
		}
		return set("code", strings.TrimSuffix(recorded+": "+c.last.Message, ": "), now)
	}
	for i, want := range c.expected {
		if i >= len(got.messages) {
			break
		}
		m := got.messages[i]
		if (m.Flag == 1) != want.Compressed || !bytes.Equal(m.Payload, want.Payload) {
			return set(fmt.Sprintf("message #%d", i), shown(want.Payload), shown(m.Payload))
		}
	}
	if len(c.expected) != len(got.messages) && !errors.Is(context.Cause(c.ctx), errGone) {
		return set("messages", strconv.Itoa(len(c.expected)), strconv.Itoa(len(got.messages)))
	}
	if c.run.cfg.Trailers {
		return c.compareTrailers(got, set)
	}
	return nil
}

func (c *call) compareTrailers(got received, set func(what, recorded, now string) *Difference) *Difference {
	for _, f := range c.last.Trailers {
		var want []string
		for _, v := range f.Values {
			want = append(want, string(v))
		}
		have := slices.Clone(got.trailers[http.CanonicalHeaderKey(f.Name)])
		if strings.HasSuffix(f.Name, "-bin") {
			for i, v := range have {
				b, _ := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
				have[i] = string(b)
			}
		}
		if !slices.Equal(want, have) {
			return set("trailer "+f.Name, strings.Join(want, ", "), strings.Join(have, ", "))
		}
	}
	return nil
}

// maxShown is how many bytes of a message are shown.
const maxShown = 64

// shown is a message for people.
func shown(payload []byte) string {
	text := fmt.Sprintf("%d bytes: %q", len(payload), payload[:min(len(payload), maxShown)])
	if len(payload) > maxShown {
		text += "..."
	}
	return text
}
