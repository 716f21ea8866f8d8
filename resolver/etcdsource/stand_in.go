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

// standIn is the snapshot of an earlier process, which may stand in for an etcd that does not give what it has. It must be
// of the same cluster: routes of another one are worse than none. That is so
//
//   - if a member of etcd says its id, if and only if that is the snapshot's;
//   - if none says it, when an address of etcd is one that the snapshot knows, of the configuration then or of a member.
type standIn struct {
	// set once
	cfg  Config
	log  *slog.Logger
	read func() (*snapshot, error) // the file, once; nil if there is none

	mu      sync.Mutex // guards what follows; held while etcd is asked
	used    bool       // what is of one snapshot stands in together
	refused error      // why it was not used the last time; nil if it was, or there is none
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
		s.tell(err)
		return nil, err
	}
	return snap, nil
}

func (s *standIn) tell(err error) { s.log.Error("the snapshot of routes cannot be used", "error", err) }

// there reports whether there is a snapshot that may be used if it is of the same cluster.
func (s *standIn) there() bool {
	snap, err := s.read()
	return snap != nil && err == nil
}

// get returns the snapshot if it may be used now, else nil. cli is a client of an etcd that answers, or may; nil if
// nobody does.
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
			s.tell(err)
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

// refusal says why there is a snapshot and it is not used, or nil.
func (s *standIn) refusal() error {
	if _, err := s.read(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// check says why the snapshot is not one of the configured etcd, whose cluster is id, 0 if nobody says.
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

// knows reports whether one of the endpoints was an address of etcd when the snapshot was made.
func (s *snapshot) knows(endpoints []string) bool {
	known := make(map[string]bool, len(s.Endpoints)+len(s.Members))
	for _, e := range slices.Concat(s.Endpoints, s.Members) {
		known[endpointAddress(e)] = true
	}
	return slices.ContainsFunc(endpoints, func(e string) bool { return known[endpointAddress(e)] })
}

func clusterText(id uint64) string { return fmt.Sprintf("%x", id) }

// endpointAddress returns host:port of an endpoint, the same for all ways to write it.
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

// askIdentity returns the id of the cluster that cli is a client of, and where its members say that they serve clients,
// each as far as somebody says.
func askIdentity(ctx context.Context, cli *clientv3.Client) (cluster uint64, members []string) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	if resp, err := pb.NewClusterClient(cli.ActiveConnection()).MemberList(ctx, &pb.MemberListRequest{}, grpc.WaitForReady(false)); err == nil {
		for _, m := range resp.Members {
			members = append(members, m.ClientURLs...)
		}
		return resp.Header.GetClusterId(), members
	}
	// One with users tells those who are none of them, or may do nothing, at least this.
	if resp, err := pb.NewAuthClient(cli.ActiveConnection()).AuthStatus(ctx, &pb.AuthStatusRequest{}, grpc.WaitForReady(false)); err == nil {
		cluster = resp.Header.GetClusterId()
	}
	return cluster, nil
}

// telling returns those addresses of members that tell one cluster from another: without the address of every machine
// itself, which etcd announces if it is told nothing, unless that is how etcd is reached.
func telling(members, endpoints []string) (all []string) {
	local := slices.ContainsFunc(endpoints, isLocal)
	for _, m := range members {
		if !isLocal(m) || local {
			all = append(all, endpointAddress(m))
		}
	}
	return all
}

// isLocal reports whether an endpoint is on loopback or at no address at all.
func isLocal(endpoint string) bool {
	at, err := netip.ParseAddrPort(endpointAddress(endpoint))
	return err == nil && (at.Addr().IsLoopback() || at.Addr().IsUnspecified())
}
