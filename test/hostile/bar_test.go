package hostile

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/race"
)

// bar is what must hold for the honest calls while framegate is attacked.
type bar struct {
	load   *chaos.Load // through framegate
	direct *chaos.Load // to the backend at the same time, which shows what the machine is worth

	quiet, attacked           mark
	othersBefore, othersAfter cpu // the attacks
}

// bearable is how late one of a hundred calls may be in any case: the machine is small, and the race detector slow.
var bearable = race.Choose(20*time.Millisecond, time.Second)

// maxOthers is how much of a processor others may take, the backend included, so that the times of calls say something of framegate.
const maxOthers = 0.5

// check ends the load. It wants every call answered, every stream whole, and the calls' p99 at most twice that of the quiet time,
// or three times what direct calls take, which have half as many hops. What is lost counts in any case; what is late only on a
// machine that is not busy with other things.
func (b *bar) check(t *testing.T, marks []mark) {
	t.Helper()
	others := time.Duration(b.othersAfter-b.othersBefore).Seconds() / b.attacked.to.Sub(b.attacked.from).Seconds()
	through, direct := b.load.Stop(), b.direct.Stop()
	quiet, attacked := through.Between("quiet", b.quiet.from, b.quiet.to), through.Between("attacked", b.attacked.from, b.attacked.to)
	machine := slowest(direct, b.attacked)
	streams := through.Summary(through.Begun)
	t.Logf("%s\n%s\n%s\nthe slowest of the direct calls took %s, and others %.2f of a processor", quiet, attacked, streams, machine, others)
	all := through.Between("all", through.Begun, time.Now())
	require.Zero(t, all.Lost(), "calls that were lost: %s%s", all, lostIn(through, marks))
	require.Zero(t, streams.Broken, "streams that broke: %s", streams)
	for i, s := range through.Streams {
		require.NotZero(t, s.Pongs, "answers on stream %d", i)
	}
	if bound := max(2*quiet.P99, bearable, 3*machine); attacked.P99 > bound && others <= maxOthers {
		t.Errorf("got a p99 of %s, want at most %s%s", attacked.P99, bound, lateIn(through, marks, bound))
	}
}

// slowest returns how long direct calls took in m, but for two in a thousand, which is less than the share of the calls through
// framegate that may be late.
func slowest(r *chaos.Report, m mark) time.Duration {
	var took []time.Duration
	for _, c := range r.Calls {
		if !c.Begun.Before(m.from) && c.Begun.Before(m.to) {
			took = append(took, c.Ended.Sub(c.Due))
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)-1-len(took)/500]
}

// during is the window of the calls that were under way during an attack.
func during(r *chaos.Report, m mark) chaos.Window {
	return r.Where(m.what, func(c chaos.Call) bool { return c.Begun.Before(m.to) && !c.Ended.Before(m.from) })
}

// lostIn says during which attacks calls were lost.
func lostIn(r *chaos.Report, marks []mark) (text string) {
	for _, m := range marks {
		if w := during(r, m); w.Lost() > 0 {
			text += fmt.Sprintf("\nduring %s", w)
		}
	}
	return text
}

// lateIn says during which attacks calls were late.
func lateIn(r *chaos.Report, marks []mark, bound time.Duration) (text string) {
	for _, m := range marks {
		if w := during(r, m); w.P99 > bound {
			text += fmt.Sprintf("\nduring %s", w)
		}
	}
	return text
}

// cpu is how long all processors together have worked for others than this process.
type cpu time.Duration

// othersNow returns the cpu so far.
func othersNow(t *testing.T) cpu {
	t.Helper()
	text, err := os.ReadFile("/proc/stat") // proc(5): user nice system idle iowait irq softirq steal, in hundredths of a second
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(text), "\n")
	var all time.Duration
	for i, field := range strings.Fields(line)[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		require.NoError(t, err)
		if i != 3 && i != 4 {
			all += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return cpu(all - ownTime(t))
}

// ownTime returns how long all processors together have worked for this process.
func ownTime(t *testing.T) time.Duration {
	t.Helper()
	var own syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &own))
	return time.Duration(own.Utime.Nano() + own.Stime.Nano())
}
