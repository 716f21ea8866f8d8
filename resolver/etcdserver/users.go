package etcdserver

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver"
)

// rootUser is the user and the role that etcd wants before it asks anybody for a password.
const rootUser = "root"

// restrict makes etcd serve the configured user alone, by that password, or everybody if there is none. It is called
// before clients are served.
func restrict(ctx context.Context, s *etcdserver.EtcdServer, cfg Config) error {
	store := s.AuthStore()
	if cfg.Username == "" {
		if store.IsAuthEnabled() {
			return errors.New("it has users, want etcd.username and etcd.password of one of them")
		}
		return nil
	}
	if err := addUser(ctx, s, cfg); err != nil {
		return fmt.Errorf("etcd.username: %q: %w", cfg.Username, err)
	}
	return nil
}

// addUser makes etcd know the user, and root, without whom it asks nobody, by the configured password. It may have done
// some of it, or all, in an earlier start; a user that etcdctl made stays.
func addUser(ctx context.Context, s *etcdserver.EtcdServer, cfg Config) error {
	store := s.AuthStore()
	asRoot := func() context.Context { return store.WithRoot(ctx) } // each change makes the token before it old
	names := []string{rootUser, cfg.Username}
	for _, name := range names {
		_, err := s.UserAdd(asRoot(), &pb.AuthUserAddRequest{Name: name, Password: cfg.Password})
		if err != nil && !errors.Is(err, auth.ErrUserAlreadyExist) {
			return err
		}
		if _, err := s.UserGrantRole(asRoot(), &pb.AuthUserGrantRoleRequest{User: name, Role: rootUser}); err != nil {
			return err
		}
	}
	if _, err := s.AuthEnable(asRoot(), &pb.AuthEnableRequest{}); err != nil {
		return err
	}
	for _, name := range names {
		_, err := store.CheckPassword(name, cfg.Password)
		if errors.Is(err, auth.ErrAuthFailed) {
			_, err = s.UserChangePassword(asRoot(), &pb.AuthUserChangePasswordRequest{Name: name, Password: cfg.Password})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
