package relay

import (
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2"
)

// socket moves the bytes of one connection between its descriptor and its h2.Conn:
//
//	serve (a goroutine) reads, gives what it read to the connection, and writes what that makes all connections of the shard send
//	                    |
//	a write that would block: blocked, and a goroutine waits until the socket takes bytes again
//
// All fields but those set once are guarded by the shard's mu.
type socket struct {
	// set once
	shard *shard
	nc    net.Conn
	raw   syscall.RawConn
	h2    *h2.Conn
	owner owner

	// greeting looks at the first bytes, and returns what is to be answered instead of HTTP/2; nil after greetingLen of them.
	greeting func(first []byte) (answer string)

	dirty   bool  // in shard.dirty
	blocked bool  // waitWritable runs
	last    int   // how much the last read brought
	moved   int64 // when the peer last took bytes while blocked, or else when it began to be
	shut    bool  // nothing is written any more

	failedAt int64 // when giveUp first saw that the connection has failed; 0 before

	// Of the write under way; here so that write needs no closure.
	out   []byte
	n     int
	err   error
	write func(fd uintptr) bool

	readNow func(fd uintptr) // reads once; the shard's mu is held
	readErr error            // of readNow
}

// owner is whose connection it is.
type owner interface {
	// portion is called before each read, with the shard's mu held. It returns how much is to be read, maxPortion at most; last is how
	// much the last read has brought. It may make other sockets read.
	portion(last int) int
	tick(now int64)           // about once a second, with the shard's mu held
	wrote()                   // after bytes have left for the peer, with the shard's mu held
	failed()                  // the connection has failed, and is about to end, with the shard's mu held; maybe more than once
	ended(why *h2.ConnError)  // with the shard's mu held
	closed(why *h2.ConnError) // behind ended, when the socket is closed; the last thing of its goroutine
}

// newSocket returns a socket for a connection. The caller sets h2 and owner, and calls serve.
func newSocket(s *shard, nc net.Conn) (*socket, error) {
	c, ok := nc.(syscall.Conn)
	if !ok {
		return nil, errNoDescriptor
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	k := &socket{shard: s, nc: nc, raw: raw}
	k.write = func(fd uintptr) bool {
		k.n, k.err = write(int(fd), k.out)
		return true
	}
	k.readNow = func(fd uintptr) {
		if _, err := k.readLocked(int(fd), maxPortion); err != nil { // serve sees the end as well, but maybe not why
			k.readErr = err
		}
	}
	return k, nil
}

var errNoDescriptor = errors.New("relay: a connection without a descriptor")

// serve reads until the connection ends, and closes it. It is the goroutine of the socket.
func (k *socket) serve() {
	var cause error
	err := k.raw.Read(func(fd uintptr) bool {
		for {
			n, err := k.read(int(fd))
			if err != nil {
				cause = err
				return true
			}
			if n == 0 {
				return false
			}
		}
	})
	if cause == nil {
		cause = err // the deadline that kill has set, or the socket was closed
	}
	why, lingers := k.end(cause)
	if lingers {
		k.linger()
	}
	_ = k.nc.Close()
	k.owner.closed(why)
}

// errOtherProtocol says that the peer does not speak HTTP/2, and was told.
var errOtherProtocol = errors.New("relay: a client of another protocol")

// errFailed says that the connection has failed, and the peer is to read why.
var errFailed = errors.New("relay: the connection has failed")

// read reads a portion, and returns how much that was; 0 without an error if there is nothing now.
func (k *socket) read(fd int) (n int, err error) {
	s := k.shard
	s.lock() // before the read, so that the shard needs one buffer
	portion := k.owner.portion(k.last)
	n, err = k.readLocked(fd, portion)
	k.last = n
	switch {
	case n == portion: // there is more, and it is the turn of others that are ready
		s.unlock()
		runtime.Gosched()
	case s.alone && 0 < n && n < littleBytes && !s.hasMuch():
		s.unlockBehind()
	default:
		s.unlock()
	}
	return n, err
}

// littleBytes is how much a read brings at most for what it makes to be written with what others make: it is for calls, not for the DATA
// of streams, whose peers wait for it.
const littleBytes = 8 << 10

// readLocked is read of a portion.
func (k *socket) readLocked(fd, portion int) (n int, err error) {
	s := k.shard
	for n, err = 0, syscall.EINTR; err == syscall.EINTR; {
		n, err = read(fd, s.input[inputStart:inputStart+portion]) // the beginning of a frame that came before goes before it
	}
	switch {
	case err == syscall.EAGAIN:
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	partial := k.h2.Partial()
	b := s.input[inputStart-len(partial) : inputStart+n]
	copy(b, partial)
	if k.greeting != nil {
		if answer := k.greeting(b); answer != "" {
			_, _ = write(fd, []byte(answer))
			return n, errOtherProtocol
		}
		if len(b) >= greetingLen {
			k.greeting = nil
			s.mark(k) // what was to be sent at the beginning
		}
	}
	k.h2.Receive(b, s.now)
	if k.h2.Failure() != nil || k.shut {
		return n, errFailed
	}
	return n, nil
}

// greetingLen is how many bytes show whether a client speaks HTTP/2.
const greetingLen = 8

// lingering is how long a peer has to read a GOAWAY before the socket is closed, and maxLingering how much it may send meanwhile.
const (
	lingering    = time.Second
	maxLingering = 1 << 20
)

// linger reads and drops what still comes, because closing a socket with unread bytes makes the kernel reset the connection, and
// the peer may then not read the GOAWAY.
func (k *socket) linger() {
	_ = k.nc.SetDeadline(time.Now().Add(lingering))
	if half, ok := k.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, k.nc, maxLingering)
}

// end ends the connection when nothing is read any more. It returns why, and whether the peer is to read a GOAWAY.
func (k *socket) end(cause error) (why *h2.ConnError, lingers bool) {
	s := k.shard
	s.lock()
	defer s.unlock()
	if k.readErr != nil && errors.Is(cause, io.EOF) {
		cause = k.readErr
	}
	why = k.h2.Failure()
	lingers = (why != nil || errors.Is(cause, errOtherProtocol)) && !k.shut
	if why == nil {
		text := "closed by the peer"
		if !errors.Is(cause, io.EOF) {
			text = cause.Error()
		}
		why = &h2.ConnError{Code: http2.ErrCodeNo, Text: text, Peer: true}
	}
	s.flush() // the GOAWAY
	k.shut = true
	k.h2.Close(why)
	k.owner.ended(why)
	delete(s.sockets, k)
	return why, lingers
}

// kill ends the connection: serve returns soon. It is for a connection whose peer does not have to know why. The shard's mu is held.
func (k *socket) kill() {
	k.shut = true
	_ = k.nc.SetDeadline(time.Unix(1, 0)) // does not block, which Close may
}

// flush writes what the connection has to send, as much as the socket takes. The shard's mu is held.
func (k *socket) flush() {
	k.h2.Flushed()
	for !k.blocked && !k.shut {
		if k.out = k.h2.Output(); len(k.out) == 0 {
			break
		}
		if err := k.raw.Write(k.write); err != nil {
			k.err = err
		}
		k.wrote()
	}
	k.out = nil
	if k.h2.Failure() != nil && !k.shut {
		k.failed()
	}
}

// wrote looks at the outcome of a write.
func (k *socket) wrote() {
	switch k.err {
	case nil:
		k.h2.Wrote(k.n)
		k.owner.wrote()
		if k.n < len(k.out) {
			k.block()
		}
	case syscall.EAGAIN:
		k.block()
	case syscall.EINTR:
	default:
		k.kill()
	}
}

// block makes a goroutine wait until the socket takes bytes.
func (k *socket) block() {
	k.blocked, k.moved = true, k.shard.now
	k.shard.wg.Go(k.waitWritable)
}

// waitWritable writes whenever the socket takes bytes, until nothing is left. It tries before it waits: that the socket takes bytes
// again is told once, and may have been told before.
func (k *socket) waitWritable() {
	s := k.shard
	_ = k.raw.Write(func(fd uintptr) bool {
		s.lock()
		defer s.unlock()
		for !k.shut {
			out := k.h2.Output()
			if len(out) == 0 {
				break
			}
			n, err := write(int(fd), out)
			if err == syscall.EAGAIN {
				return false
			}
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				k.kill()
				break
			}
			k.moved = s.now
			k.h2.Wrote(n)
			k.owner.wrote()
		}
		return true
	})
	// Not before: whoever unlocks s writes what unblocked sockets have to send, and Write lets one in at a time.
	s.lock()
	defer s.unlock()
	k.blocked = false
	s.mark(k)
}

// shortWriteTimeout bounds write_timeout while the memory for what waits is short. The kernel says that a socket takes bytes when a
// third of its buffer is free, which a reader of 300 KB a second has made in some 5 s.
const shortWriteTimeout = 8 * time.Second

// tooSlow ends the connection of a peer that takes nothing of what it is sent, and reports whether it is one.
func (k *socket) tooSlow(now int64, timeout time.Duration) bool {
	if k.shard.budget.IsShort() {
		timeout = min(timeout, shortWriteTimeout)
	}
	if !k.blocked || now-k.moved <= int64(timeout) {
		return false
	}
	k.h2.Close(&h2.ConnError{Code: http2.ErrCodeEnhanceYourCalm, Offence: h2.WriteTooSlow, Text: "nothing was read in " + timeout.String()})
	k.kill()
	return true
}

// giveUp closes the socket of a connection that has failed, and whose peer does not read why.
func (k *socket) giveUp(now int64) {
	switch {
	case k.h2.Failure() == nil || !k.blocked:
	case k.failedAt == 0:
		k.failedAt = now
	case now-k.failedAt >= int64(lingering):
		k.kill()
	}
}

// failed is called when the connection has failed, and its GOAWAY is written or cannot be: serve is to return.
func (k *socket) failed() {
	k.owner.failed()
	if !k.blocked {
		_ = k.nc.SetReadDeadline(time.Unix(1, 0)) // wakes serve, unless it is what runs
	}
}
