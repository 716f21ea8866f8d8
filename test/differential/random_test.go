package differential

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// perSettings is how many random scripts are played with each of randomSettings.
var perSettings = race.Choose(75, 30)

// randomSettings are what the raw ends announce. The first ones are the defaults.
var randomSettings = []struct {
	name     string
	settings []http2.Setting
}{
	{"defaults", nil},
	{"small windows", []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 20_000}}}, // the raw ends give credit after 16 KiB
	{"large frames", []http2.Setting{{ID: http2.SettingMaxFrameSize, Val: 1 << 20}, {ID: http2.SettingInitialWindowSize, Val: 1 << 20}}},
	{"no table", []http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 0}}},
}

// TestDifferential_Random plays scripts that are made at random, from fixed seeds, without a framegate and over the relay: many at a
// time, which share the connections. Those with the default settings are played over the other planes, too.
func TestDifferential_Random(t *testing.T) {
	t.Parallel()
	for i := range randomSettings {
		playRandom(t, i, planes[0])
	}
	for _, p := range played[1:] {
		playRandom(t, 0, p)
	}
}

func playRandom(t *testing.T, settings int, p plane) {
	t.Run(p.name+"/"+randomSettings[settings].name, func(t *testing.T) {
		t.Parallel()
		options := []testbed.H2Option{testbed.Settings(randomSettings[settings].settings...)}
		without, with := newStage(t, directly, options, options), newStage(t, p, options, options)
		first := script{request: testbed.RequestFields(), acts: []act{ask, accept, respond, succeed}}
		compare(t, &first, without.play(&first), with)
		for seed := range perSettings {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				sc := newRandom(seed, settings, p).script()
				compare(t, &sc, without.play(&sc), with)
			})
		}
	})
}

// random makes scripts.
type random struct {
	*rand.Rand
	maxPayload int
}

func newRandom(seed, settings int, p plane) random {
	r := random{rand.New(rand.NewPCG(uint64(seed), uint64(settings))), race.Choose(200_000, 80_000)}
	if p.holdsParts {
		r.maxPayload = 20_000 // what it holds back is no matter of speed
	}
	return r
}

// script returns a call that is legal, or that one end resets.
func (r random) script() script {
	sc := script{request: r.request(), empty: r.one(10)}
	up, down := r.ups(sc.empty), r.downs()
	end := r.trailers()
	if len(down) == 0 {
		end = append(testbed.ResponseFields().Replace("content-type", r.contentType()), end...)
	}
	acts := r.merge(up, down)
	switch {
	case r.one(6):
		acts = append(acts[:r.IntN(len(acts)+1)], giveUp(r.code()))
	case r.one(6):
		acts = r.brokenOff(acts, up, down)
	case r.one(6): // the answer ends before the request
		acts = append(r.merge(up[:r.IntN(len(up)+1)], down), finish(end))
	default:
		last := r.IntN(len(acts) + 1) // what comes after that is done at once, so that the end is sent behind DATA that waits
		acts = append(acts[:last:last], atOnce(append(acts[last:], finish(end))...))
	}
	sc.acts = acts
	return sc
}

// one returns true once in n times.
func (r random) one(n int) bool { return r.IntN(n) == 0 }

// ups returns the acts of the client. They end the request.
func (r random) ups(empty bool) (acts []act) {
	if empty {
		return nil
	}
	for range r.IntN(5) {
		acts = append(acts, r.pieces(send)...)
	}
	switch {
	case r.one(8):
		return append(acts, sendTrailers(r.fields(3)))
	case r.one(2):
		return append(acts, halfEnd)
	}
	return append(acts, sendEnd(r.messages()))
}

// downs returns the acts of the server but for the end: none for an answer of trailers only.
func (r random) downs() (acts []act) {
	if r.one(5) {
		return nil
	}
	acts = append(acts, begin(append(testbed.ResponseFields().Replace("content-type", r.contentType()), r.fields(8)...)))
	for range r.IntN(5) {
		acts = append(acts, r.pieces(reply)...)
	}
	return acts
}

// brokenOff returns acts that the server breaks off.
func (r random) brokenOff(acts, up, down []act) []act {
	code := r.code()
	if code == http2.ErrCodeRefusedStream { // with the headers of an answer, or the relay tries again
		if len(down) == 0 {
			code = http2.ErrCodeCancel
		}
		return append(r.merge(up, down), breakOff(code))
	}
	return append(acts[:r.IntN(len(acts)+1)], breakOff(code))
}

func (r random) code() http2.ErrCode { return resetCodes[r.IntN(len(resetCodes))] }

// merge returns the acts of both ends in an order of its own, some of them at once.
func (r random) merge(up, down []act) (acts []act) {
	for len(up)+len(down) > 0 {
		n := min(1+r.IntN(4), len(up)+len(down))
		var group []act
		for range n {
			from := &up
			if len(up) == 0 || len(down) > 0 && r.one(2) {
				from = &down
			}
			group, *from = append(group, (*from)[0]), (*from)[1:]
		}
		if len(group) == 1 || r.one(2) {
			acts = append(acts, group...)
		} else {
			acts = append(acts, atOnce(group...))
		}
	}
	return acts
}

// pieces returns acts that send messages, cut anywhere.
func (r random) pieces(send func([]byte) act) (acts []act) {
	body := r.messages()
	for r.one(2) && len(body) > 1 {
		n := 1 + r.IntN(min(len(body)-1, 1+r.IntN(len(body))))
		acts, body = append(acts, send(body[:n])), body[n:]
	}
	return append(acts, send(body))
}

func (r random) messages() (body []byte) {
	for range r.IntN(4) {
		size := r.IntN(100)
		switch {
		case r.one(10):
			size = r.IntN(r.maxPayload)
		case r.one(4):
			size = r.IntN(20_000)
		case r.one(6):
			size = 0
		}
		m := testbed.Message{Payload: pattern(size, r.IntN(256))}
		if r.one(3) {
			m.Flag = 1
		}
		body = append(body, m.Bytes()...)
	}
	return body
}

func (r random) request() testbed.Fields {
	f := testbed.RequestFields().Replace("content-type", r.contentType())
	if r.one(3) {
		f = f.Replace(":authority", pick(r, "a", "a.example:1", "[::1]:443", ""))
	}
	if r.one(3) {
		f = f.Replace(":path", pick(r, "/a/b", "/a.b.C/D", "/test.Raw/Other"))
	}
	if r.one(3) {
		f = f.With("grpc-timeout", fmt.Sprintf("%d%s", 600+r.IntN(1000), pick(r, "S", "M", "H")))
	}
	return append(f, r.fields(8)...)
}

func (r random) contentType() string {
	return "application/grpc" + pick(r, "", "", "+proto", "+json", ";a=b", "+x;y")
}

func (r random) trailers() testbed.Fields {
	f := testbed.NewFields("grpc-status", fmt.Sprint(r.IntN(20)))
	if r.one(2) {
		f = f.With("grpc-message", pick(r, "", "a message", "50%25", "%e2%98%ba", "bad %zz", "ä", "space "))
	}
	if r.one(4) {
		f = f.With("grpc-status-details-bin", r.base64())
	}
	return append(f, r.fields(6)...)
}

// fields returns up to n fields, some of them with the same name.
func (r random) fields(n int) (f testbed.Fields) {
	for range r.IntN(n + 1) {
		name, value := r.name(), r.value()
		switch {
		case r.one(4):
			name, value = name+"-bin", r.base64()
		case r.one(5) && len(f) > 0:
			if again := f[r.IntN(len(f))].Name; strings.HasPrefix(again, ownPrefix) {
				name = again
			}
			if isBinary(line{name: name}) {
				value = r.base64()
			}
		case r.one(8):
			c := fieldCases[r.IntN(len(fieldCases))]
			f = append(f, c.fields...)
			continue
		}
		f = f.With(name, value)
		f[len(f)-1].Sensitive = r.one(8)
	}
	return f
}

const nameBytes = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"

// ownPrefix begins names that are none of gRPC's or HTTP's.
const ownPrefix = "r-"

// name returns a name with ownPrefix.
func (r random) name() string {
	b := []byte(ownPrefix)
	for range 1 + r.IntN(12) {
		b = append(b, nameBytes[r.IntN(len(nameBytes))])
	}
	if r.one(2) {
		b = b[:3] // one that comes again
	}
	return string(b) + "n" // not the end of -bin
}

// value returns a value of bytes that HTTP/2 allows.
func (r random) value() string {
	n := r.IntN(30)
	if r.one(10) {
		n = r.IntN(3000)
	}
	b := make([]byte, n)
	for i := range b {
		switch b[i] = byte(r.IntN(256)); {
		case b[i] < ' ' && b[i] != '\t', b[i] == 0x7f:
			b[i] = 'v'
		}
	}
	return string(b)
}

func (r random) base64() string {
	b := []byte(r.value())
	enc := []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding}
	return enc[r.IntN(2)].EncodeToString(b)
}

func pick[T any](r random, from ...T) T { return from[r.IntN(len(from))] }
