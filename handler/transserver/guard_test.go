package transserver

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/h2conn"
	"github.com/framegate/framegate/test/race"
)

// frames returns the bytes of what f writes.
func frames(f func(fr *http2.Framer)) []byte {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	fr.AllowIllegalWrites = true
	f(fr)
	return b.Bytes()
}

// newTestGuard is a guard behind the preface, for 10 streams and 4 KiB of metadata.
func newTestGuard() *guard {
	g := newGuard(10, 4<<10)
	g.running = func() int { return 0 }
	g.read([]byte(http2.ClientPreface), 0)
	return g
}

// readUntil gives the guard the piece up to most times, and returns how often until it objected.
func readUntil(g *guard, piece []byte, most int) (times int, o *Offence) {
	for times = range most {
		if o = g.read(piece, 0); o != nil {
			return times, o
		}
	}
	return most, nil
}

func TestGuard_FramesThatCarryNothingHaveABudget(t *testing.T) {
	for name, piece := range map[string][]byte{
		"PING":                 frames(func(fr *http2.Framer) { _ = fr.WritePing(false, [8]byte{1}) }),
		"SETTINGS":             frames(func(fr *http2.Framer) { _ = fr.WriteSettings() }),
		"SETTINGS with values": frames(func(fr *http2.Framer) { _ = fr.WriteSettings(http2.Setting{ID: 1, Val: 0}) }),
		"SETTINGS ACK":         frames(func(fr *http2.Framer) { _ = fr.WriteSettingsAck() }),
		"PRIORITY":             frames(func(fr *http2.Framer) { _ = fr.WritePriority(3, http2.PriorityParam{StreamDep: 1}) }),
		"empty DATA":           frames(func(fr *http2.Framer) { _ = fr.WriteData(1, false, nil) }),
		"empty last DATA":      frames(func(fr *http2.Framer) { _ = fr.WriteData(1, true, nil) }),
		"WINDOW_UPDATE":        frames(func(fr *http2.Framer) { _ = fr.WriteWindowUpdate(1, 1) }),
		"RST_STREAM":           frames(func(fr *http2.Framer) { _ = fr.WriteRSTStream(1, http2.ErrCodeCancel) }),
		"GOAWAY":               frames(func(fr *http2.Framer) { _ = fr.WriteGoAway(1, 0, nil) }),
		"unknown":              frames(func(fr *http2.Framer) { _ = fr.WriteRawFrame(0xbe, 0, 0, []byte("x")) }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newTestGuard()
				require.Nil(t, g.read(openStream(1), 0))
				time.Sleep(rapid) // the stream is old now
				times, o := readUntil(g, piece, 2*firstBudget)
				require.Equal(t, TooManyControls, o)
				require.InDelta(t, firstBudget, times, 10)
			})
		})
	}
}

func TestGuard_BudgetGrowsWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGuard()
		ping := frames(func(fr *http2.Framer) { _ = fr.WritePing(false, [8]byte{1}) })
		_, o := readUntil(g, ping, firstBudget)
		require.Nil(t, o)
		time.Sleep(time.Second)
		_, o = readUntil(g, ping, budgetRate)
		require.Nil(t, o)
		_, o = readUntil(g, ping, 2)
		require.Equal(t, TooManyControls, o)
	})
}

// What an honest client sends in a long life: it is sent away for none of it. No time passes.
func TestGuard_LetsHonestClientsBe(t *testing.T) {
	times := race.Choose(20, 3) * maxBudget
	headers := func(fr *http2.Framer, flags bool) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: flags, BlockFragment: make([]byte, 50)})
	}
	for name, c := range map[string]struct{ received, sent []byte }{
		"unary calls": {
			received: frames(func(fr *http2.Framer) { headers(fr, false); _ = fr.WriteData(1, true, make([]byte, 5)) }),
			sent: frames(func(fr *http2.Framer) {
				headers(fr, false)
				_ = fr.WriteData(1, false, make([]byte, 5))
				headers(fr, true)
			}),
		},
		"upload": {received: frames(func(fr *http2.Framer) { _ = fr.WriteData(1, false, make([]byte, 1)) })},
		"download, windows given back twice for each frame, and measured": {
			received: frames(func(fr *http2.Framer) {
				_ = fr.WriteWindowUpdate(0, 1)
				_ = fr.WriteWindowUpdate(1, 1)
				_ = fr.WritePing(false, [8]byte{2})
			}),
			sent: frames(func(fr *http2.Framer) { _ = fr.WriteData(1, false, make([]byte, 1)) }),
		},
		"download, windows given back in small pieces": {
			received: frames(func(fr *http2.Framer) {
				for range 32 {
					_ = fr.WriteWindowUpdate(0, 256)
					_ = fr.WriteWindowUpdate(1, 256)
				}
			}),
			sent: frames(func(fr *http2.Framer) { _ = fr.WriteData(1, false, make([]byte, 16<<10)) }),
		},
		"keepalive of the server": {
			received: frames(func(fr *http2.Framer) { _ = fr.WritePing(true, [8]byte{}) }),
			sent:     frames(func(fr *http2.Framer) { _ = fr.WritePing(false, [8]byte{}) }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newTestGuard()
				for i := range times {
					g.sent.follower.Follow(c.sent)
					if o := g.read(c.received, 0); o != nil {
						t.Fatalf("round %d: sent away: %s", i, o.Name)
					}
				}
			})
		})
	}
}

// callAndReset opens a stream and resets it.
func callAndReset(id uint32) []byte { return append(openStream(id), resetStream(id)...) }

func openStream(id uint32) []byte {
	return frames(func(fr *http2.Framer) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: make([]byte, 10)})
	})
}

func resetStream(id uint32) []byte {
	return frames(func(fr *http2.Framer) { _ = fr.WriteRSTStream(id, http2.ErrCodeCancel) })
}

// A rapid reset: CVE-2023-44487.
func TestGuard_ResetsOfWhatWasJustOpenedHaveABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, size := range []int{1, 7, 1000} { // pairs in a piece
			g := newTestGuard()
			time.Sleep(time.Hour) // saves nothing up
			var o *Offence
			id := uint32(1)
			for o == nil && id < 10_000 {
				var piece []byte
				for range size {
					piece = append(piece, callAndReset(id)...)
					id += 2
				}
				o = g.read(piece, 0)
			}
			require.Equal(t, TooManyResets, o)
			require.LessOrEqual(t, int(id/2), 10*3600+10+streamsSlack+1+size)
		}
	})
}

func TestGuard_ResetsOfOlderStreamsAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGuard()
		for i := range uint32(10_000) { // as calls do whose deadline passes
			id := 2*i + 1
			require.Nil(t, g.read(openStream(id), 0))
			if id > 20 {
				require.Nil(t, g.read(append(frames(func(fr *http2.Framer) { _ = fr.WriteData(id-20, true, nil) }), resetStream(id-20)...), 0))
			}
			time.Sleep(3 * time.Millisecond)
		}
	})
}

func TestGuard_AllStreamsMayBeResetTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, gap := range []time.Duration{0, time.Millisecond} { // between one stream and the next
			g := newTestGuard()
			for id := uint32(1); id < 10_000; {
				first := id
				for range 1000 {
					require.Nil(t, g.read(openStream(id), 0))
					id += 2
					time.Sleep(gap)
				}
				time.Sleep(2 * rapid)
				var resets []byte
				for ; first < id; first += 2 {
					resets = append(resets, resetStream(first)...)
				}
				require.Nil(t, g.read(resets, 0))
			}
		}
	})
}

func TestGuard_EveryOtherCallMayBeGivenUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGuard()
		for i := range uint32(10_000) {
			require.Nil(t, g.read(append(openStream(4*i+1), callAndReset(4*i+3)...), 0))
		}
	})
}

func TestGuard_ResetsFasterThanHandlersEnd(t *testing.T) {
	t.Parallel()
	g := newTestGuard()
	running := 2*10 + streamsSlack
	g.running = func() int { return running }
	require.Nil(t, g.read(callAndReset(1), 0))
	running++
	require.Nil(t, g.read(openStream(3), 0), "nothing is reset")
	require.Equal(t, TooManyResets, g.read(resetStream(3), 0))
}

func TestGuard_PingAckThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	ack := func(data [8]byte) []byte {
		return frames(func(fr *http2.Framer) { _ = fr.WritePing(true, data) })
	}
	ping := func(data [8]byte) []byte {
		return frames(func(fr *http2.Framer) { _ = fr.WritePing(false, data) })
	}
	g := newTestGuard()
	require.Equal(t, UnaskedPingAck, g.read(ack(goAwayPing), 0))
	g = newTestGuard()
	require.Equal(t, UnaskedPingAck, g.read(ack([8]byte{}), 0))

	g = newTestGuard()
	g.sent.follower.Follow(ping([8]byte{}))
	require.Equal(t, UnaskedPingAck, g.read(ack(goAwayPing), 0), "the answer to another ping")

	g = newTestGuard()
	sent := ping(goAwayPing)
	g.sent.follower.Follow(sent[:12]) // written in two parts
	g.sent.follower.Follow(sent[12:])
	require.Nil(t, g.read(ack(goAwayPing), 0))
	require.Equal(t, UnaskedPingAck, g.read(ack(goAwayPing), 0), "twice")
}

func TestGuard_HeaderBlockHasAnEnd(t *testing.T) {
	t.Parallel()
	begin := frames(func(fr *http2.Framer) { _ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1}) })
	for _, size := range []int{0, 1, 16384} {
		g := newTestGuard()
		require.Nil(t, g.read(begin, 0))
		more := frames(func(fr *http2.Framer) { _ = fr.WriteContinuation(1, false, make([]byte, size)) })
		times, o := readUntil(g, more, 1_000_000)
		require.Equal(t, HeadersTooLong, o)
		require.LessOrEqual(t, times*(size+h2conn.BlockFrameCost), 2*4096+minBlock)
	}
	g := newTestGuard()
	whole := append(bytes.Clone(begin), frames(func(fr *http2.Framer) { _ = fr.WriteContinuation(1, true, make([]byte, 4096)) })...)
	_, o := readUntil(g, whole, 1000)
	require.Nil(t, o, "each block has its own bound")
}

func TestGuard_WindowOfTheConnectionHasAnEnd(t *testing.T) {
	t.Parallel()
	raise := func(n uint32) []byte {
		return frames(func(fr *http2.Framer) { _ = fr.WriteWindowUpdate(0, n) })
	}
	g := newTestGuard()
	require.Nil(t, g.read(raise(1<<31-1-65535), 0))
	g.sent.follower.Follow(frames(func(fr *http2.Framer) { _ = fr.WriteData(1, false, make([]byte, 100)) }))
	require.Nil(t, g.read(raise(100), 0), "what was taken from it may be given back")
	require.Equal(t, WindowOverflow, g.read(raise(1), 0))
}

func TestGuard_QueueOfAClientThatDoesNotReadHasAnEnd(t *testing.T) {
	t.Parallel()
	call := openStream(1)
	const writing = 7 // odd: a write is under way, and it is the same all the time
	g := newTestGuard()
	var o *Offence
	times := 0
	for ; o == nil && times < 100_000; times++ {
		o = g.read(call, writing)
	}
	require.Equal(t, NotReading, o)
	require.LessOrEqual(t, times, 4*10+firstBudget+2)

	g = newTestGuard()
	for i := range 100_000 {
		require.Nil(t, g.read(call, 2*i+1), "each is another write")
	}
}

// What comes in pieces of any size is judged alike.
func TestGuard_PiecesDoNotMatter(t *testing.T) {
	t.Parallel()
	all := frames(func(fr *http2.Framer) {
		_ = fr.WriteSettings()
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: make([]byte, 10)})
		_ = fr.WriteData(1, false, make([]byte, 100))
		_ = fr.WriteWindowUpdate(0, 1<<31-1)
	})
	for size := 1; size <= len(all); size++ {
		g := newTestGuard()
		var o *Offence
		for rest := all; len(rest) > 0 && o == nil; {
			n := min(size, len(rest))
			o = g.read(rest[:n:n], 0)
			rest = rest[n:]
		}
		require.Equal(t, WindowOverflow, o)
	}
}

func FuzzGuard(f *testing.F) {
	f.Add([]byte(http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		g := newGuard(10, 4096)
		for step := int(size) + 1; len(b) > 0; {
			n := min(step, len(b))
			if g.read(b[:n:n], 1) != nil {
				return
			}
			b = b[n:]
		}
	})
}

func BenchmarkGuard_CallOfFourFramesAndItsAnswer(b *testing.B) {
	received := frames(func(fr *http2.Framer) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: make([]byte, 50)})
		_ = fr.WriteData(1, true, make([]byte, 100))
		_ = fr.WriteWindowUpdate(0, 100)
		_ = fr.WriteWindowUpdate(1, 100)
	})
	sent := frames(func(fr *http2.Framer) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: make([]byte, 50)})
		_ = fr.WriteData(1, false, make([]byte, 100))
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: make([]byte, 50)})
	})
	g := newTestGuard()
	b.ReportAllocs()
	for b.Loop() {
		g.sent.follower.Follow(sent)
		if o := g.read(received, 0); o != nil {
			b.Fatal(o.Name)
		}
	}
}
