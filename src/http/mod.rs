//! HTTP: routes, extractors, wire types, errors, OpenAPI. The only place that knows the web framework.
