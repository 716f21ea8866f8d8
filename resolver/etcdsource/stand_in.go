package etcdsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// identityTimeout is the time for etcd to say which cluster it is.
const identityTimeout = time.Second

// standIn decides whether the snapshot of an earlier process may be used while etcd cannot be read. The snapshot must be of
// the same cluster, because routes of another cluster are worse than none. It is,
//
//   - if a member of etcd tells the id of its cluster: if that is the id in the snapshot;
//   - if no member tells it: if the snapshot has one of the configured endpoints, as an endpoint of then or as the address
//     of a member.
type standIn struct {
	// set once
	cfg  Config
	log  *slog.Logger
	read func() (*snapshot, error) // reads the file, once; returns nil if there is none

	mu      sync.Mutex // guards what follows; held while etcd is asked
	used    bool       // get has returned the snapshot: the other followers then get it without a further check
	refused error      // why the last get did not return the snapshot; nil if it did, or there is none
}

func newStandIn(cfg Config, log *slog.Logger) *standIn {
	s := &standIn{cfg: cfg, log: log}
	s.read = sync.OnceValues(s.readFile)
	return s
}

func (s *standIn) readFile() (*snapshot, error) {
	if s.cfg.Snapshot == "" {
		return nil, nil
	}
	snap, err := readSnapshot(s.cfg.Snapshot, s.cfg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		s.logRefusal(err)
		return nil, err
	}
	return snap, nil
}

func (s *standIn) logRefusal(err error) {
	s.log.Error("the snapshot of routes cannot be used", "error", err)
}

// there reports whether there is a snapshot that can be read. Whether it is of the same cluster, get finds out.
func (s *standIn) there() bool {
	snap, err := s.read()
	return snap != nil && err == nil
}

// get returns the snapshot, or nil if there is none or it is not of the same cluster. cli is the client to ask for the id of
// the cluster; nil if it is known that no member of etcd answers.
func (s *standIn) get(ctx context.Context, cli *clientv3.Client) *snapshot {
	if !s.there() {
		return nil
	}
	snap, _ := s.read()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used {
		return snap
	}
	var id uint64
	if cli != nil {
		id, _ = askIdentity(ctx, cli)
	}
	if err := snap.check(s.cfg, id); err != nil {
		if s.refused == nil || s.refused.Error() != err.Error() {
			s.logRefusal(err)
		}
		s.refused = err
		return nil
	}
	s.used, s.refused = true, nil
	if !snap.knows(s.cfg.Client.Endpoints) {
		s.log.Info("the snapshot of routes was made under other addresses of the same cluster of etcd", "cluster", clusterText(snap.Cluster),
			"then", snap.Endpoints, "now", s.cfg.Client.Endpoints)
	}
	return snap
}

// refusal returns why the snapshot cannot be used; nil if it can, or there is none.
func (s *standIn) refusal() error {
	if _, err := s.read(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// check returns why the snapshot is not of the configured etcd, or nil if it is. id is that of etcd's cluster, 0 if no member
// tells it.
func (s *snapshot) check(cfg Config, id uint64) error {
	switch {
	case id != 0 && id != s.Cluster:
		return fmt.Errorf("%s: of etcd's cluster %s at %q, but at %q is cluster %s", cfg.Snapshot, clusterText(s.Cluster), s.Endpoints, cfg.Client.Endpoints, clusterText(id))
	case id == 0 && !s.knows(cfg.Client.Endpoints):
		return fmt.Errorf("%s: of etcd at %q, and nobody at %q says whether that is the same: if it is, name one of the former too",
			cfg.Snapshot, s.Endpoints, cfg.Client.Endpoints)
	}
	return nil
}

// knows reports whether one of the endpoints was an endpoint or a member's address of etcd when the snapshot was made.
func (s *snapshot) knows(endpoints []string) bool {
	known := make(map[string]bool, len(s.Endpoints)+len(s.Members))
	for _, e := range slices.Concat(s.Endpoints, s.Members) {
		known[endpointAddress(e)] = true
	}
	return slices.ContainsFunc(endpoints, func(e string) bool { return known[endpointAddress(e)] })
}

func clusterText(id uint64) string { return fmt.Sprintf("%x", id) }

// endpointAddress returns the host:port of an endpoint, which is the same with and without a scheme, in upper and lower
// case, and for localhost and 127.0.0.1.
func endpointAddress(endpoint string) string {
	if _, rest, ok := strings.Cut(endpoint, "://"); ok {
		endpoint = rest
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return endpoint
	}
	host = strings.ToLower(host)
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// askIdentity asks etcd for the id of its cluster, 0 if no member answers, and for the addresses at which its members serve
// clients, none if they are not told.
func askIdentity(ctx context.Context, cli *clientv3.Client) (cluster uint64, members []string) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	if resp, err := pb.NewClusterClient(cli.ActiveConnection()).MemberList(ctx, &pb.MemberListRequest{}, grpc.WaitForReady(false)); err == nil {
		for _, m := range resp.Members {
			members = append(members, m.ClientURLs...)
		}
		return resp.Header.GetClusterId(), members
	}
	// An etcd with users tells its id even to a client that has not logged in or has no permissions.
	if resp, err := pb.NewAuthClient(cli.ActiveConnection()).AuthStatus(ctx, &pb.AuthStatusRequest{}, grpc.WaitForReady(false)); err == nil {
		cluster = resp.Header.GetClusterId()
	}
	return cluster, nil
}

// distinctive returns the addresses of members that tell one cluster from another. Loopback addresses do not, because an
// etcd that is not configured otherwise announces them on any machine; they count only if an endpoint is one.
func distinctive(members, endpoints []string) (all []string) {
	local := slices.ContainsFunc(endpoints, isLocal)
	for _, m := range members {
		if !isLocal(m) || local {
			all = append(all, endpointAddress(m))
		}
	}
	return all
}

// isLocal reports whether an endpoint is a loopback or the unspecified address.
func isLocal(endpoint string) bool {
	at, err := netip.ParseAddrPort(endpointAddress(endpoint))
	return err == nil && (at.Addr().IsLoopback() || at.Addr().IsUnspecified())
}
