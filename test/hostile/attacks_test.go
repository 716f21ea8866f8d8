package hostile

import (
	"slices"
	"testing"

	"github.com/framegate/framegate/test/testbed"
)

// What clients must not send costs the stream or the connection, as RFC 9113 says, and nobody else anything.
func TestClients_MistakesCostWhatTheRFCSays(t *testing.T) {
	upstream, stuck := testbed.NewH2Server(t), testbed.NewH2Server(t, testbed.HoldWindows())
	w := newWorld(t, routeTo(rawMethod, upstream), routeTo(stuckMethod, stuck))
	w.under(t, func(t *testing.T) {
		badPrefaces(t, w)
		frameAttacks(t, w, stuck)
		requestAttacks(t, w, upstream)
		headerAttacks(t, w)
		crowdedAttack(t, w)
	})
}

// Too much of what clients may send costs their connection.
func TestClients_FloodsCostTheirConnection(t *testing.T) {
	w := newWorld(t)
	w.under(t, func(t *testing.T) {
		floodAttacks(t, w)
		resetAttacks(t, w, relayed)
	})
}

// The same of calls that package handler makes, each of which has goroutines of its own.
func TestClients_FloodsOfHandledCallsCostTheirConnection(t *testing.T) {
	w := newWorld(t)
	w.under(t, func(t *testing.T) {
		for _, f := range resetFloods(indexed, handled)[:2] {
			w.attack(t, f.name, func(t *testing.T) { f.run(t, w.proxy.Addr) })
		}
		resetAttacks(t, w, handled)
	})
}

// What endpoints must not send, or too much of what they may, costs the call or their connection.
func TestEndpoints_MistakesCostWhatTheRFCSays(t *testing.T) {
	ill := slices.Concat(badAnswers(), badFrames(), badFloods())
	routes, servers := illRoutes(t, ill)
	gone := testbed.NewH2Server(t)
	w := newWorld(t, append(routes, routeTo(goneMethod, gone))...)
	w.under(t, func(t *testing.T) {
		illAttacks(t, w, ill, servers)
		goAwayAttacks(t, w, gone)
	})
}

// Clients and endpoints that are slow, silent or deaf are waited for as long as that costs nothing.
func TestPeers_ThatTakeTheirTimeTakeNobodyElses(t *testing.T) {
	silent, refusals, unread := newSilentEndpoints(t), refusalRoutes(t), testbed.NewH2Server(t)
	w := newWorld(t, slices.Concat(silent.routes(), refusals, []route{routeTo(unreadMethod, unread), deaf(t)})...)
	w.under(t, func(t *testing.T) {
		slowAttacks(t, w, func() {
			silenceAttacks(t, w, silent)
			refusalAttacks(t, w, refusals)
			unreadAttacks(t, w, unread)
		})
	})
}
