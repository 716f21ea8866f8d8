package h2

import "time"

// kind is a kind of what a peer is charged for; see Limits.
type kind uint8

const (
	pings kind = iota
	settingsFrames
	emptyData
	windowUpdates
	priorities
	unknownFrames
	otherFrames
	rapidResets
	provokedResets
	refusedStreams
	manyKinds
)

// floods are the offences of what is over the limit, by kind.
var floods = [manyKinds]Offence{
	pings: PingFlood, settingsFrames: SettingsFlood, emptyData: EmptyDataFlood, windowUpdates: WindowUpdateFlood, priorities: PriorityFlood,
	unknownFrames: UnknownFrameFlood, otherFrames: TooManyControls,
	rapidResets: TooManyResets, provokedResets: TooManyProvokedResets, refusedStreams: TooManyStreams,
}

// rate returns the limit of a kind.
func (c *Config) rate(k kind) Rate {
	switch l := &c.Limits; k {
	case pings:
		return l.Ping
	case settingsFrames:
		return l.Settings
	case emptyData:
		return l.EmptyData
	case windowUpdates:
		return l.WindowUpdate
	case priorities:
		return l.Priority
	case unknownFrames:
		return l.UnknownFrames
	case rapidResets:
		return Rate{l.RapidResets.Burst, l.RapidResets.PerSecond}
	case provokedResets:
		return l.ProvokedResets
	case refusedStreams:
		return c.RefusedStreams
	default:
		return l.OtherFrames
	}
}

// budget charges a peer for what costs this end more than it costs the peer; see Limits. Times are in nanoseconds, on the
// caller's clock.
type budget struct {
	cfg    *Config
	earned int64 // control frames of each kind that HEADERS and DATA were worth
	opened int64 // streams
	left   [manyKinds]allowance

	pinged   bool  // a PING has come since HEADERS or DATA were last sent
	lastPing int64 // when the last one came; set if pinged
	strikes  int   // those that came sooner than MinPing after the one before
}

// allowance is how much of one kind may still come.
type allowance struct {
	n      int64
	seen   int64 // how much of budget.earned, or of budget.opened, n has
	filled int64 // when time was last added to n
}

func newBudget(cfg *Config, now int64) budget {
	b := budget{cfg: cfg}
	for k := range manyKinds {
		b.left[k] = allowance{n: int64(cfg.rate(k).Burst), filled: now}
	}
	return b
}

// saved is how many times Rate.Burst of control frames a peer can save up.
const saved = 10

// earn adds n control frames of each kind to the budget.
func (b *budget) earn(n int64) { b.earned += n }

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

// spend charges one of a kind, and reports whether the budget allows it.
func (b *budget) spend(k kind, now int64) bool {
	a, rate := &b.left[k], b.cfg.rate(k)
	most, income, cost := saved*int64(rate.Burst), b.earned, int64(1)
	if k >= rapidResets {
		most, income, cost = int64(rate.Burst), b.opened, 2
	}
	a.n = min(a.n+income-a.seen, most) - cost
	a.seen = income
	if a.n >= 0 {
		return true
	}
	a.n = min(a.n+int64(time.Duration(now-a.filled).Seconds()*float64(rate.PerSecond)), most)
	a.filled = now
	return a.n >= 0
}

// maxStrikes is how many PINGs may come too soon.
const maxStrikes = 2

// ping counts a PING, and reports whether Config.MinPing allows it.
func (b *budget) ping(now int64) bool {
	if b.pinged && now-b.lastPing < int64(b.cfg.MinPing) {
		b.strikes++
	}
	b.pinged, b.lastPing = true, now
	return b.strikes <= maxStrikes
}
