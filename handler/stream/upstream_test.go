package stream

import "github.com/framegate/framegate/pool/kitexconn"

var _ Upstream = (*kitexconn.Stream)(nil)
