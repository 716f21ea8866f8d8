package h2

import "time"

// budget charges a peer for what costs this end more than it costs the peer; see Limits. Times are in nanoseconds, on the
// caller's clock.
type budget struct {
	limits     *Limits
	maxStreams int64

	controls int64 // control frames that may still come
	refilled int64 // when time was last added to controls

	resets     int64 // rapid resets that may still come
	resetsGrew int64 // when time was last added to resets

	pinged   bool  // a PING has come since HEADERS or DATA were last sent
	lastPing int64 // when the last one came; set if pinged
	strikes  int   // those that came sooner than MinPing after the one before
}

func newBudget(cfg *Config, now int64) budget {
	return budget{
		limits: &cfg.Limits, maxStreams: int64(cfg.MaxConcurrentStreams), controls: int64(cfg.Limits.ControlBurst), refilled: now,
		resets: int64(cfg.Limits.ResetBurst), resetsGrew: now,
	}
}

// saved is how many times ControlBurst a peer can save up.
const saved = 10

// earn adds n control frames to the budget.
func (b *budget) earn(n int64) { b.controls = min(b.controls+n, saved*int64(b.limits.ControlBurst)) }

// sentHeaders adds what a header block that was sent is worth, and forgives PINGs.
func (b *budget) sentHeaders() {
	b.pinged, b.strikes = false, 0
	b.earn(2)
}

// sentData adds what a DATA frame of n bytes that was sent is worth, and forgives PINGs: the peer may give the windows of the stream
// and of the connection back in pieces of 256 bytes.
func (b *budget) sentData(n int) {
	b.pinged, b.strikes = false, 0
	b.earn(4 + int64(n)/128)
}

// spend charges a control frame, and reports whether the budget allows it.
func (b *budget) spend(now int64) bool {
	if b.controls--; b.controls >= 0 {
		return true
	}
	b.earn(int64(time.Duration(now-b.refilled).Seconds() * float64(b.limits.ControlPerSec)))
	b.refilled = now
	return b.controls >= 0
}

// opened counts a stream that the peer has opened.
func (b *budget) opened() { b.resets = min(b.resets+1, int64(b.limits.ResetBurst)) }

// reset charges a rapid reset, and reports whether the budget allows it.
func (b *budget) reset(now int64) bool {
	if b.resets -= 2; b.resets >= 0 {
		return true
	}
	b.resets = min(b.resets+int64(time.Duration(now-b.resetsGrew).Seconds()*float64(b.maxStreams)), int64(b.limits.ResetBurst))
	b.resetsGrew = now
	return b.resets >= 0
}

// maxStrikes is how many PINGs may come too soon.
const maxStrikes = 2

// ping counts a PING, and reports whether Limits.MinPing allows it.
func (b *budget) ping(now int64) bool {
	if b.pinged && now-b.lastPing < int64(b.limits.MinPing) {
		b.strikes++
	}
	b.pinged, b.lastPing = true, now
	return b.strikes <= maxStrikes
}
