package etcdsource

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
)

// clusterOf returns the id of an etcd.
func clusterOf(t *testing.T, cli *clientv3.Client) uint64 {
	t.Helper()
	resp, err := cli.Get(t.Context(), "k")
	require.NoError(t, err)
	return resp.Header.ClusterId
}

// snapshotOf writes a snapshot with serviceRoute and the instance e:1, and returns the configuration that names it.
func snapshotOf(t *testing.T, cfg Config, cluster uint64, endpoints ...string) Config {
	t.Helper()
	cfg.Snapshot = filepath.Join(t.TempDir(), "s.json")
	s := &snapshot{
		Format: snapshotFormat, Saved: time.Now(), Endpoints: endpoints, Prefix: cfg.Prefix, ServicePrefix: cfg.ServicePrefix, Cluster: cluster,
		Routes:    snapshotPart{Revision: 1, Documents: map[string]snapshotDocument{"found": {Revision: 1, Value: []byte(serviceRoute)}}},
		Instances: snapshotPart{Revision: 1, Documents: map[string]snapshotDocument{"echo/e:1": {Revision: 1, Value: []byte(`{"network":"tcp","address":"e:1","weight":10}`)}}},
	}
	require.NoError(t, s.write(cfg.Snapshot))
	return cfg
}

// Whoever answers says which cluster it is, though it gives nothing else.
func TestSnapshot_IsOfTheClusterThatAnswers(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.StartEtcdForUsers(t)
	cli := resolvertest.EtcdClient(t, endpoint)
	id := clusterOf(t, cli)
	etcdtest.EnableAuth(t, cli)
	for user, password := range map[string]string{"reader": "p", "": "", "nobody": "p"} {
		t.Run("as "+user, func(t *testing.T) {
			cfg := etcdConfig(endpoint)
			cfg.Client.Username, cfg.Client.Password = user, password

			source, r, log, stop := startSource(t, snapshotOf(t, cfg, id, "another-name:2379"))
			waitReady(t, source)
			require.True(t, resolvertest.Resolves(r, "/found.S/M", "found")(), "the same cluster under another address")
			require.Equal(t, 1, log.Count("made under other addresses"), log.String())
			require.True(t, source.Status().Stale)
			stop()

			for _, then := range []string{"another-name:2379", endpoint} {
				source, r, log, stop := startSource(t, snapshotOf(t, cfg, id+1, then))
				etcdtest.Eventually(t, etcdtest.Soon, "it is refused", func() bool { return log.Count("the snapshot of routes cannot be used") == 1 })
				require.ErrorContains(t, source.NotReady(), "of etcd's cluster "+clusterText(id+1))
				require.Empty(t, r.Routes(), "another cluster, at %s", then)
				stop()
			}
		})
	}
}

// Where nobody answers, and no address is known, it may be another etcd altogether, such as that of production for one of
// staging. As soon as somebody says that it is the same, the snapshot is used.
func TestSnapshot_OfUnknownAddressesWaitsForAnAnswer(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.StartEtcdForUsers(t)
	cli := resolvertest.EtcdClient(t, endpoint)
	id := clusterOf(t, cli)
	etcdtest.EnableAuth(t, cli)
	link := etcdtest.NewLink(t, endpoint)
	link.Cut()
	source, r, log, _ := startSource(t, snapshotOf(t, etcdConfig(link.Address()), id, "another-name:2379"))
	etcdtest.Eventually(t, etcdtest.Soon, "it is refused", func() bool { return log.Count("the snapshot of routes cannot be used") == 1 })
	require.ErrorContains(t, source.NotReady(), `nobody at ["`+link.Address()+`"] says whether that is the same`)
	require.Empty(t, r.Routes())
	link.Restore()
	waitReady(t, source)
	require.True(t, resolvertest.AddressOf(r, "/found.S/M", "e:1")())
	require.Equal(t, 1, log.Count("the snapshot of routes cannot be used"), "told once")
}

func TestSnapshot_KnowsAddressesHoweverTheyAreWritten(t *testing.T) {
	for _, c := range []struct {
		then, members []string
		now           string
		want          bool
	}{
		{[]string{"etcd:2379"}, nil, "etcd:2379", true},
		{[]string{"http://Etcd:2379"}, nil, "etcd:2379", true},
		{[]string{"localhost:2379"}, nil, "http://127.0.0.1:2379", true},
		{[]string{"etcd:2379"}, nil, "etcd:2380", false},
		{[]string{"etcd:2379"}, []string{"https://10.0.0.1:2379"}, "10.0.0.1:2379", true},
		{[]string{"etcd:2379"}, []string{"http://localhost:2379", "http://0.0.0.0:2379", "http://[::1]:2379"}, "localhost:2379", false}, // what etcd announces if told nothing
		{[]string{"127.0.0.1:1"}, []string{"http://localhost:2379"}, "localhost:2379", true},
	} {
		s := &snapshot{Endpoints: c.then, Members: distinctive(c.members, c.then)}
		require.Equal(t, c.want, s.knows([]string{"other:1", c.now}), "%+v", c)
	}
}
