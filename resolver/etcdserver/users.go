package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver"
)

// rootUser is the name of the user and of the role that must exist before etcd's authentication can be enabled.
const rootUser = "root"

// restrict makes etcd serve only the configured user, with the configured password. Without a user in the configuration it
// makes sure that etcd serves all clients. It is called before clients are served.
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

// ownRole marks the users that addUser made. It has no permissions.
const ownRole = "framegate"

// addUser adds the configured user and root, both with the configured password, and enables authentication. Some or all of
// that may have been done by an earlier start. It removes users that it added for another configuration; users that were
// added by etcdctl stay.
func addUser(ctx context.Context, s *etcdserver.EtcdServer, cfg Config) error {
	store := s.AuthStore()
	asRoot := func() context.Context { return store.WithRoot(ctx) } // a new one for each change, which makes older tokens invalid
	names := []string{rootUser, cfg.Username}
	if _, err := s.RoleAdd(asRoot(), &pb.AuthRoleAddRequest{Name: ownRole}); err != nil && !errors.Is(err, auth.ErrRoleAlreadyExist) {
		return err
	}
	for _, name := range names {
		_, err := s.UserAdd(asRoot(), &pb.AuthUserAddRequest{Name: name, Password: cfg.Password})
		if err != nil && !errors.Is(err, auth.ErrUserAlreadyExist) {
			return err
		}
		roles := []string{rootUser}
		if made := err == nil; made && name != rootUser {
			roles = []string{ownRole, rootUser}
		}
		for _, role := range roles {
			if _, err := s.UserGrantRole(asRoot(), &pb.AuthUserGrantRoleRequest{User: name, Role: role}); err != nil {
				return err
			}
		}
	}
	if err := removeOthers(asRoot, s, cfg.Username); err != nil {
		return err
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

// removeOthers removes the users that addUser made for configurations with another user than name.
func removeOthers(asRoot func() context.Context, s *etcdserver.EtcdServer, name string) error {
	users, err := s.UserList(asRoot(), &pb.AuthUserListRequest{})
	if err != nil {
		return err
	}
	for _, other := range users.Users {
		if other == name {
			continue
		}
		user, err := s.UserGet(asRoot(), &pb.AuthUserGetRequest{Name: other})
		if err != nil {
			return err
		}
		if !slices.Contains(user.Roles, ownRole) {
			continue
		}
		if _, err := s.UserDelete(asRoot(), &pb.AuthUserDeleteRequest{Name: other}); err != nil {
			return err
		}
	}
	return nil
}
