// Command overload measures how many calls a framegate still answers at twice the rate that it can carry, and how soon it
// refuses the others. overload.sh runs it.
//
// Its backend and its load write frames that are encoded beforehand, and of most frames read only the header, so that one
// processor is enough for both while framegate has another to itself. The load is an open loop: a call is made when it is
// due, whether the calls before it have ended or not, as far as the connections take it. Enter here; then load.go and
// backend.go; frames.go is the HTTP/2 of both (RFC 9113).
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"time"
)

const (
	connections = 8
	// step is how long one rate is held, of which settle is not counted.
	step   = 1800 * time.Millisecond
	settle = 600 * time.Millisecond
	// enough is the share of good calls below which search stops raising the rate.
	enough = 0.75
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("overload: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	backend := flag.String("backend", "", "serve as the backend on this `address`")
	to := flag.String("to", "", "put the load on the framegate at this `address`")
	rounds := flag.Int("rounds", 5, "how often to measure; medians are shown")
	flag.Parse()
	switch {
	case *backend != "":
		ln, err := net.Listen("tcp", *backend)
		if err != nil {
			return err
		}
		return serve(ln)
	case *to == "" || *rounds < 1:
		return errors.New("want -backend or -to, and at least one round")
	}
	var capacity, goodput, share, refused []float64
	for range *rounds {
		carried, err := search(*to)
		if err != nil {
			return err
		}
		twice, err := hold(*to, 2*carried.good)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "carries %6.0f/s; of %6.0f/s %6.0f/s sent, %6.0f/s good, %6.0f/s refused in %s (median), %s (p99), %s (longest)\n", carried.good,
			twice.due, twice.sent, twice.good, twice.refused, percentile(twice.refusals, 50), percentile(twice.refusals, 99), percentile(twice.refusals, 100))
		capacity, goodput = append(capacity, carried.good), append(goodput, twice.good)
		share = append(share, 100*twice.good/carried.good)
		refused = append(refused, float64(percentile(twice.refusals, 99).Milliseconds()))
	}
	fmt.Printf("medians of %d rounds: carries %.0f/s; twice the load leaves %.0f/s (%.0f %%), 99 %% of the refused within %.0f ms\n",
		*rounds, median(capacity), median(goodput), median(share), median(refused))
	return nil
}

// search raises the rate until many calls are refused or late, and returns the result with the most good calls.
func search(addr string) (best result, err error) {
	for rate := 10_000.0; rate <= 600_000; rate *= 1.2 {
		r, err := hold(addr, rate)
		if err != nil {
			return result{}, err
		}
		if r.good > best.good {
			best = r
		}
		if r.good < enough*r.due {
			return best, nil
		}
	}
	return result{}, errors.New("the processor is not the bound: 600,000 calls a second are not too many")
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)].Round(100 * time.Microsecond)
}

func median[T cmp.Ordered](v []T) T {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
