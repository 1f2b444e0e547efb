//! Becomes the first process of a sandbox; see [`atoll_sys::launch`].

fn main() -> std::process::ExitCode {
    atoll_sys::launch::run()
}
