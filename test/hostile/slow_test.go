package hostile

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// lateAfter is how long a client has for the handshake and for a header block. framegate looks once a second.
const lateAfter = 10 * time.Second

// silence is what a client sends before it falls silent, and how it is sent away after lateAfter.
type silence struct {
	sent    []byte
	offence string // the debug data of the GOAWAY; empty if the connection stays
}

func silences() map[string]silence {
	half := request(1, held(relayed), true)
	half = half[:len(half)/2]
	const handshake, header = "handshake_timeout", "header_timeout"
	return map[string]silence{
		"nothing":                           {nil, handshake},
		"half a preface":                    {[]byte(http2.ClientPreface[:12]), handshake},
		"a preface without SETTINGS":        {[]byte(http2.ClientPreface), handshake},
		"half of the SETTINGS":              {append([]byte(http2.ClientPreface), 0, 0, 6, 4, 0), handshake},
		"no ACK of the SETTINGS":            {slices.Concat([]byte(http2.ClientPreface), frame(http2.FrameSettings, 0, 0)), handshake},
		"a request without ACK":             {slices.Concat([]byte(http2.ClientPreface), frame(http2.FrameSettings, 0, 0), request(1, held(relayed), false)), handshake},
		"half of a HEADERS frame":           {slices.Concat(greeting, half), header},
		"the header of a HEADERS frame":     {slices.Concat(greeting, half[:9]), header},
		"HEADERS without END_HEADERS":       {slices.Concat(greeting, frame(http2.FrameHeaders, 0, 1, 0x83)), header},
		"half of a CONTINUATION":            {slices.Concat(greeting, frame(http2.FrameHeaders, 0, 1, 0x83), []byte{0, 0, 9, 9, 4, 0, 0}), header},
		"half a block behind a whole call":  {slices.Concat(greeting, request(1, held(relayed), true), frame(http2.FrameHeaders, 0, 3, 0x83)), header},
		"trailers without END_HEADERS":      {slices.Concat(greeting, request(1, held(relayed), false), frame(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, 0x83)), header},
		"a good handshake":                  {greeting, ""},
		"a call whose request does not end": {slices.Concat(greeting, request(1, held(relayed), false)), ""},
		"half of a message":                 {slices.Concat(greeting, request(1, held(relayed), false), frame(http2.FrameData, 0, 1, 0, 0, 0, 1)), ""},
	}
}

// drip sends a byte a second for as long as the server takes them.
type drip struct {
	name    string
	ready   []byte // sent at once
	slowly  []byte
	offence string // the debug data of the GOAWAY; empty if the connection stays
}

func drips() []drip {
	data := frame(http2.FrameData, 0, 1, 0)
	return []drip{
		{"the preface", nil, []byte(http2.ClientPreface), "handshake_timeout"},
		{"SETTINGS", []byte(http2.ClientPreface), frame(http2.FrameSettings, 0, 0, make([]byte, 60)...), "handshake_timeout"},
		{"HEADERS", greeting, request(1, held(relayed), true), "header_timeout"},
		{"CONTINUATION", slices.Concat(greeting, frame(http2.FrameHeaders, 0, 1, 0x83)), frame(http2.FrameContinuation, 0, 1, make([]byte, 60)...), "header_timeout"},
		{"DATA", slices.Concat(greeting, request(1, held(relayed), false)), slices.Repeat(data, 10), ""},
	}
}

// The clients of a crowd. The race detector makes each of them cost several times as much.
var (
	manySlow = race.Choose(500, 100)
	manyIdle = race.Choose(1000, 200)
)

// slowAttacks makes clients that take their time, all at once, and then does something else until it is known what comes of them: they
// are borne as long as that costs nothing, and else sent away with the code that says why.
func slowAttacks(t *testing.T, w *world, meanwhile func()) {
	crowds := newPart(t)
	defer crowds.end()
	begun := time.Now()
	silent := map[string]*patient{}
	var slow, idle *crowd
	w.watched(t, "the coming of crowds", func() {
		for name, s := range silences() {
			silent[name] = newPatient(crowds, w, s.sent, nil)
			silent[name].listen(s.offence)
		}
		slow, idle = beginSlow(crowds, w), beginIdle(crowds, w)
	})
	var dripping sync.WaitGroup
	dripping.Go(func() { slow.dripUntil(begun.Add(lateAfter)) })
	meanwhile()
	dripping.Wait()
	for name, s := range inOrder(silences()) {
		w.attack(t, "silence after "+name, func(t *testing.T) { silent[name].wantEnd(t, s.offence) })
	}
	for i, d := range drips() {
		w.attack(t, fmt.Sprintf("%s, a byte a second", d.name), func(t *testing.T) {
			for _, p := range slow.of(i) {
				p.listen(d.offence)
				p.wantEnd(t, d.offence)
			}
		})
	}
	w.attack(t, "idle connections", func(t *testing.T) { idle.wantAlive(t) })
}

// patient is a client that has time.
type patient struct {
	nc     *net.TCPConn
	begun  time.Time
	slowly []byte      // what is still to be sent
	ended  chan ending // gets one value; nil before listen
}

// ending is how a connection ended.
type ending struct {
	said *testbed.GoAway
	err  error
	at   time.Time
}

// newPatient dials a client and sends what it sends at once.
func newPatient(t testing.TB, w *world, sent, slowly []byte) *patient {
	t.Helper()
	p := &patient{begun: time.Now(), nc: dial(t, w.proxy.Addr), slowly: slowly}
	require.NoError(t, write(p.nc, sent))
	return p
}

// listen reads until the connection ends, unless it is to stay.
func (p *patient) listen(offence string) {
	if offence == "" {
		return
	}
	p.ended = make(chan ending, 1)
	go func() {
		said, err := readToEnd(p.nc, lateAfter+testbed.Patience)
		p.ended <- ending{said, err, time.Now()}
	}()
}

// wantEnd wants the client to be sent away, or to be heard if offence is empty.
func (p *patient) wantEnd(t *testing.T, offence string) {
	t.Helper()
	if offence == "" {
		p.wantAlive(t)
		return
	}
	end := <-p.ended
	require.NoError(t, end.err)
	require.GreaterOrEqual(t, end.at.Sub(p.begun), lateAfter)
	require.NotNil(t, end.said, "a GOAWAY")
	require.Equal(t, offence, end.said.Debug)
	want := calm
	if offence == "handshake_timeout" {
		want = http2.ErrCodeSettingsTimeout
	}
	require.Equal(t, want, end.said.Code)
}

// wantAlive wants the answer to a PING.
func (p *patient) wantAlive(t *testing.T) {
	t.Helper()
	require.NoError(t, p.alive())
}

// alive is wantAlive for any goroutine.
func (p *patient) alive() error {
	data := [8]byte{'a', 'l', 'i', 'v', 'e'}
	if err := write(p.nc, append(p.slowly, frame(http2.FramePing, 0, 0, data[:]...)...)); err != nil { // behind the frame that was begun
		return err
	}
	if err := p.nc.SetReadDeadline(time.Now().Add(testbed.Patience)); err != nil {
		return err
	}
	for fr := http2.NewFramer(io.Discard, p.nc); ; {
		f, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		if ping, ok := f.(*http2.PingFrame); ok && ping.IsAck() && ping.Data == data {
			return nil
		}
	}
}

// crowd are many clients, of the kinds in turn.
type crowd struct {
	kinds   int
	clients []*patient
}

// of returns the clients of a kind.
func (c *crowd) of(kind int) (all []*patient) {
	for i := kind; i < len(c.clients); i += c.kinds {
		all = append(all, c.clients[i])
	}
	return all
}

func beginSlow(t testing.TB, w *world) *crowd {
	t.Helper()
	kinds := drips()
	c := &crowd{kinds: len(kinds)}
	for i := range manySlow {
		d := kinds[i%len(kinds)]
		c.clients = append(c.clients, newPatient(t, w, d.ready, slices.Clone(d.slowly)))
	}
	return c
}

// dripUntil makes each client send a byte a second, until a time.
func (c *crowd) dripUntil(end time.Time) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := time.Now(); now.Before(end); now = <-tick.C {
		for _, p := range c.clients {
			if len(p.slowly) > 0 && write(p.nc, p.slowly[:1]) == nil {
				p.slowly = p.slowly[1:]
			}
		}
	}
}

func beginIdle(t testing.TB, w *world) *crowd {
	t.Helper()
	c := &crowd{kinds: 1}
	for range manyIdle {
		c.clients = append(c.clients, newPatient(t, w, greeting, nil))
	}
	return c
}

// wantAlive wants all clients to be heard, who speak at the same time.
func (c *crowd) wantAlive(t *testing.T) {
	t.Helper()
	const speakers = 4
	errs := make([]error, len(c.clients))
	var speaking sync.WaitGroup
	for k := range speakers {
		speaking.Go(func() {
			for i := k; i < len(c.clients); i += speakers {
				errs[i] = c.clients[i].alive()
			}
		})
	}
	speaking.Wait()
	require.NoError(t, errors.Join(errs...))
}
