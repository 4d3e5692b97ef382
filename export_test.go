package spool

// WithSizes makes all segments of one size and a checkpoint every so many bytes of log: what takes gigabytes in
// production then takes kilobytes.
func WithSizes(segment, checkpoint int64) Option {
	return func(o *options) { o.segmentSize, o.checkpointEvery = segment, checkpoint }
}
