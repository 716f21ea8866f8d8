package differential

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/framegate/framegate/test/testbed"
)

// stage is where scripts are played: a raw client and a raw server, with or without a framegate between them.
type stage struct {
	t      testing.TB
	plane  plane
	addr   string
	server *testbed.H2Server
	opts   []testbed.H2Option
	calls  atomic.Int64
	conns  sync.Map // connections that the server has got requests on

	mu     sync.Mutex // guards what follows
	client *testbed.H2Conn
	came   map[string]chan *testbed.H2Stream // requests that the server has got, by their callID
}

func newStage(t testing.TB, p plane, client, server []testbed.H2Option) *stage {
	s := &stage{t: t, plane: p, opts: client, came: map[string]chan *testbed.H2Stream{}}
	s.server = testbed.ServeH2(t, func(st *testbed.H2Stream) func() {
		s.arrivals(st.Events()[0].Fields.Get(callID)) <- st
		return nil
	}, server...)
	s.addr = p.to(t, s.server.Addr)
	return s
}

func (s *stage) isDirect() bool { return s.addr == s.server.Addr }

// arrivals returns where the requests with a callID arrive.
func (s *stage) arrivals(id string) chan *testbed.H2Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.came[id] == nil {
		s.came[id] = make(chan *testbed.H2Stream, 8) // more than a proxy tries
	}
	return s.came[id]
}

// open opens a stream on the client's connection, a new one if the last has ended.
func (s *stage) open(request testbed.Fields, empty bool) *testbed.H2Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil || isClosed(s.client.Done()) {
		s.client = testbed.DialH2(s.t, s.addr, s.opts...)
	}
	if empty {
		return s.client.OpenEnd(s.t, request)
	}
	return s.client.Open(s.t, request)
}

// play plays a script and returns what both ends saw.
func (s *stage) play(sc *script) transcript {
	t, _ := s.playOn(sc)
	return t
}

// playOn is play. isFirst says that the server got it on a connection on which it had got none before.
func (s *stage) playOn(sc *script) (t transcript, isFirst bool) {
	for range maxTries {
		named := *sc
		named.request = sc.request.With(callID, fmt.Sprint(s.calls.Add(1)))
		p := &play{script: &named, stage: s}
		if t = p.run(); p.ss != nil {
			_, known := s.conns.LoadOrStore(p.ss.Conn(), true)
			return t, !known
		}
		if !sc.headers {
			break
		}
	}
	return t, false
}

// maxTries is how often a script is played of which only the request's headers matter: they may come too late.
const maxTries = 10

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
