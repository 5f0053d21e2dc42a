package stdio

// Shared is the process for requests without sessions (modern protocol versions).
type Shared struct{ backend *Backend }
