package h2

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLimits_Validate(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]ClientLimits{
		"handshake_timeout: -1s, want 1ms to 1h0m0s, or 0s (the default)":                                                                  {Limits: Limits{HandshakeTimeout: -time.Second}},
		"header_timeout: 2h0m0s, want 1ms to 1h0m0s, or 0s (the default)":                                                                  {Limits: Limits{HeaderTimeout: 2 * time.Hour}},
		"header_block_bytes: 4095, want max_header_bytes (4096) to 1073741824, or 0 (the default)":                                         {Limits: Limits{HeaderBlockBytes: 4095}},
		"header_block_bytes: 1073741825, want max_header_bytes (4096) to 1073741824, or 0 (the default)":                                   {Limits: Limits{HeaderBlockBytes: 1<<30 + 1}},
		"continuation_frames: -1, want 1 to 1048576, or 0 (the default)":                                                                   {Limits: Limits{ContinuationFrames: -1}},
		"rapid_resets.within: 1ns, want 1ms to 1h0m0s, or 0s (the default)":                                                                {Limits: Limits{RapidResets: Resets{Within: 1}}},
		"rapid_resets.burst: 1048577, want 1 to 1048576, or 0 (the default)":                                                               {Limits: Limits{RapidResets: Resets{Burst: 1<<20 + 1}}},
		"provoked_resets.per_second: -1, want 1 to 1048576, or 0 (the default)":                                                            {Limits: Limits{ProvokedResets: Rate{PerSecond: -1}}},
		"refused_streams.burst: -1, want 1 to 1048576, or 0 (the default)":                                                                 {RefusedStreams: Rate{Burst: -1}},
		"ping.burst: -1, want 1 to 1048576, or 0 (the default)\nping.per_second: -2, want 1 to 1048576, or 0 (the default)":                {Limits: Limits{Ping: Rate{-1, -2}}},
		"settings.burst: -1, want 1 to 1048576, or 0 (the default)":                                                                        {Limits: Limits{Settings: Rate{Burst: -1}}},
		"empty_data.burst: -1, want 1 to 1048576, or 0 (the default)":                                                                      {Limits: Limits{EmptyData: Rate{Burst: -1}}},
		"window_update.burst: -1, want 1 to 1048576, or 0 (the default)":                                                                   {Limits: Limits{WindowUpdate: Rate{Burst: -1}}},
		"priority.burst: -1, want 1 to 1048576, or 0 (the default)":                                                                        {Limits: Limits{Priority: Rate{Burst: -1}}},
		"unknown_frames.burst: -1, want 1 to 1048576, or 0 (the default)":                                                                  {Limits: Limits{UnknownFrames: Rate{Burst: -1}}},
		"other_frames.burst: -1, want 1 to 1048576, or 0 (the default)":                                                                    {Limits: Limits{OtherFrames: Rate{Burst: -1}}},
		"unread_bytes: 131071, want 131072 to 1073741824, or 0 (the default)\nwrite_timeout: 1ns, want 1ms to 1h0m0s, or 0s (the default)": {Limits: Limits{UnreadBytes: 131071, WriteTimeout: 1}},
	} {
		require.EqualError(t, l.Validate(4096), want)
	}
	require.NoError(t, new(ClientLimits).Validate(4096))
	least := Rate{1, 1}
	all := Limits{
		HandshakeTimeout: time.Millisecond, HeaderTimeout: time.Hour, HeaderBlockBytes: 4096, ContinuationFrames: 1, RapidResets: Resets{time.Hour, 1, 1}, ProvokedResets: least,
		Ping: least, Settings: least, EmptyData: least, WindowUpdate: least, Priority: least, UnknownFrames: least, OtherFrames: least, UnreadBytes: 128 << 10, WriteTimeout: time.Hour,
	}
	require.NoError(t, all.Validate(4096))
	require.Equal(t, all, Config{Limits: all}.WithDefaults().Limits, "what is set stays")
}

// The defaults of what follows from other fields of a Config.
func TestLimits_Defaults(t *testing.T) {
	t.Parallel()
	for streams, want := range map[uint32]Rate{50: {1100, 1000}, 5000: {5100, 5000}} { // a client of few streams may make as many calls
		l := Config{MaxConcurrentStreams: streams}.WithDefaults()
		require.Equal(t, want, l.RefusedStreams)
		require.Equal(t, want, l.Limits.ProvokedResets)
		require.Equal(t, Resets{10 * time.Millisecond, want.Burst, want.PerSecond}, l.Limits.RapidResets)
	}
	for list, want := range map[uint32]int{4096: 1 << 20, 1 << 20: 2 << 20} {
		require.Equal(t, want, Config{MaxHeaderList: list}.WithDefaults().Limits.UnreadBytes)
	}
	l := Config{MaxHeaderList: 4096}.WithDefaults()
	require.Equal(t, []int{16384, 19}, []int{l.Limits.HeaderBlockBytes, l.Limits.ContinuationFrames})
	require.Equal(t, Rate{1000, 7}, Config{Limits: Limits{Ping: Rate{PerSecond: 7}}}.WithDefaults().Limits.Ping)
}

// What a stream costs is what its own kind may have, and what the others have stays.
func TestLimits_KindsAreCountedApart(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{Limits: Limits{Ping: Rate{Burst: 5, PerSecond: 1}, UnknownFrames: Rate{Burst: 5, PerSecond: 1}}})
	p.send(times(5, raw(99, 0, 0)), times(5, raw(0x6, flagAck, 0, make([]byte, 8)...)))
	require.Nil(t, p.conn.Failure())
	p.send(raw(99, 0, 0))
	require.Equal(t, UnknownFrameFlood, p.conn.Failure().Offence)
}

// A server that resets every stream at once is an offender, one that takes its time, or has answered, is not.
func TestLimits_ResetsOfAServer(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		answered bool
		after    time.Duration
		offence  Offence
	}{
		"at once":        {false, 9 * time.Millisecond, TooManyResets},
		"later":          {false, 10 * time.Millisecond, ""},
		"with an answer": {true, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newClientPeer(t, Config{Limits: Limits{RapidResets: Resets{Burst: 10, PerSecond: 1}}})
			for range 11 {
				s := p.open(false)
				p.now += time.Second / 20 // since the last Receive
				p.conn.OpenedAt(int64(p.now))
				p.now += x.after
				if x.answered {
					p.send(answer(flagEndStream, s.ID()))
				}
				p.send(rst(s.ID(), 2))
			}
			if x.offence == "" {
				require.Nil(t, p.conn.Failure())
				return
			}
			require.NotNil(t, p.conn.Failure())
			require.Equal(t, x.offence, p.conn.Failure().Offence)
		})
	}
}
