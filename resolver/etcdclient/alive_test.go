package etcdclient

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/etcdtest"
)

// members returns a client of one etcd that it takes for two members, and the links to both.
func members(t *testing.T) (cli *clientv3.Client, one, two *etcdtest.Link, silent chan string) {
	t.Helper()
	at := etcdtest.Shared(t)
	one, two = etcdtest.NewLink(t, at.Endpoint), etcdtest.NewLink(t, at.Endpoint)
	silent = make(chan string, 100)
	cli, err := New(Config{
		Endpoints: []string{one.Address(), two.Address()}, Silent: func(address string) { silent <- address },
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	for range 4 { // both are connected to
		_, err := cli.Get(t.Context(), "k")
		require.NoError(t, err)
	}
	return cli, one, two, silent
}

// A member that was stopped answers nothing and resets nothing. gRPC's keepalive needs 15 s to see that.
func TestAlive_RequestsLeaveAMemberThatHasStopped(t *testing.T) {
	t.Parallel()
	cli, one, two, silent := members(t)
	lease, err := cli.Grant(t.Context(), 60)
	require.NoError(t, err)
	one.Freeze()
	began := time.Now()
	for range 4 {
		_, err := cli.Get(t.Context(), "k")
		require.NoError(t, err)
		_, err = cli.KeepAliveOnce(t.Context(), lease.ID)
		require.NoError(t, err)
	}
	require.Less(t, time.Since(began), 10*time.Second)
	require.Equal(t, one.Address(), <-silent)
	one.Thaw()
	two.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	_, err = cli.Get(ctx, "k")
	require.NoError(t, err, "a member that goes on is used again")
	two.Thaw()
}

func TestAlive_AnIdleConnectionIsLeftAlone(t *testing.T) {
	t.Parallel()
	cli, _, _, silent := members(t)
	watched := cli.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	<-watched
	time.Sleep(3 * aliveSilence) // nothing is to happen in this time
	require.Empty(t, silent)
	_, err := cli.Put(t.Context(), "k", "v")
	require.NoError(t, err)
	require.Len(t, (<-watched).Events, 1)
}

// peerOf returns a connection whose other side is answered by serve.
func peerOf(t *testing.T, serve func(net.Conn)) (client *aliveConn, silent chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
			serve(conn)
		}
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	silent = make(chan string, 1)
	client = newAliveConn(raw, 400*time.Millisecond, func(address string) { silent <- address })
	t.Cleanup(func() {
		_ = client.Close()
		_ = l.Close()
		<-done
	})
	_, err = client.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	return client, silent
}

// A peer may take as long as it wants over a request, if it answers a probe. That is no PING: gRPC servers close connections
// that send them often while a request takes its time.
func TestAlive_ASlowPeerIsNotASilentOne(t *testing.T) {
	t.Parallel()
	probed := make(chan http2.FrameType, 10)
	client, silent := peerOf(t, func(conn net.Conn) {
		_, _ = io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
		framer := http2.NewFramer(conn, conn)
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if probe, ok := f.(*http2.SettingsFrame); ok && !probe.IsAck() {
				probed <- probe.Type
				_ = framer.WriteSettingsAck()
			} else if f.Header().Type == http2.FramePing {
				probed <- http2.FramePing
			}
		}
	})
	read := make(chan error, 1)
	go func() { _, err := io.ReadFull(client, make([]byte, 9)); read <- err }()
	out := http2.NewFramer(client, nil)
	require.NoError(t, out.WriteData(1, true, []byte("a request that is never answered")))
	require.NoError(t, <-read, "the answer to the probe")
	require.Equal(t, http2.FrameSettings, <-probed)
	require.NoError(t, out.WriteSettingsAck()) // which nobody answers
	time.Sleep(800 * time.Millisecond)         // nothing is to happen in this time
	require.Empty(t, silent)
	require.Empty(t, probed)
	require.NoError(t, out.WriteData(3, true, nil), "it is open")
}

func TestAlive_APeerThatTakesAllAndSaysNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(client *aliveConn){
		"between frames": func(client *aliveConn) { _ = http2.NewFramer(client, nil).WriteData(1, true, []byte("x")) },
		"within a frame": func(client *aliveConn) { _, _ = client.Write([]byte{0, 0, 100, 0, 0, 0, 0, 0, 1, 'x'}) },
		"header in two pieces": func(client *aliveConn) {
			_, _ = client.Write([]byte{0, 0, 0, 1})
			_, _ = client.Write([]byte{4, 0, 0, 0, 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, silent := peerOf(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
			began := time.Now()
			write(client)
			_, err := client.Read(make([]byte, 1))
			require.Error(t, err, "it was closed")
			require.GreaterOrEqual(t, time.Since(began), 350*time.Millisecond)
			<-silent
		})
	}
	t.Run("a peer that does not read", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		client, silent := peerOf(t, func(net.Conn) { <-ctx.Done() })
		big := make([]byte, 1<<20)
		copy(big, []byte{255, 255, 255, 0, 0, 0, 0, 0, 1})
		for {
			if _, err := client.Write(big); err != nil {
				break
			}
		}
		<-silent
		cancel()
	})
}
