//! Kerberos for SASL, by the system's GSSAPI library (RFC 2743, RFC 2744).
//!
//! The library is loaded when a client first needs it, so programs run without it, too. It finds the user's ticket by
//! itself, as `kinit` or a keytab (`KRB5_CLIENT_KTNAME`) left it.
//!
//! Why `unsafe` is sound here: the functions have the signatures of RFC 2744, every pointer that they get is to a value
//! that lives during the call, buffers that they allocate are copied and released at once, and the two handles of a
//! [`Context`] are used by one thread at a time and released once. The library is never unloaded.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

use std::ffi::{c_int, c_void};
use std::fmt;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use kavka_core::error::{Error, ErrorKind, Result, printable_name, printable_reason};
use kavka_core::link::sasl::GssContext;
use libloading::Library;

/// The file names of MIT's library, and of the interface that comes with macOS.
const LIBRARIES: &[&str] = if cfg!(target_os = "macos") {
    &["libgssapi_krb5.dylib", "/System/Library/Frameworks/GSS.framework/GSS"]
} else {
    &["libgssapi_krb5.so.2"]
};

/// Kerberos 5, and the form `service@host` of a name, as object identifiers.
const KERBEROS: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
const HOST_BASED_SERVICE: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04";

/// Mutual authentication, detection of replayed and reordered messages, and integrity.
const FLAGS: u32 = 2 | 4 | 8 | 32;

/// The context needs another token.
const CONTINUE_NEEDED: u32 = 1;

/// Where a status has its error, and which errors have words of ours.
const ERROR_SHIFT: u32 = 16;
const NO_CREDENTIALS: u32 = 7;
const CREDENTIALS_EXPIRED: u32 = 11;

/// Kerberos' own codes: three for a keytab that does not fit, an unknown service principal, an expired ticket, and two
/// for a key distribution centre that is away.
const UNKNOWN_CLIENT: u32 = 0x96c7_3a06;
const PREAUTHENTICATION_FAILED: u32 = 0x96c7_3a18;
const WRONG_KEY: u32 = 0x96c7_3a1f;
const UNKNOWN_SERVER: u32 = 0x96c7_3a07;
const TICKET_EXPIRED: u32 = 0x96c7_3a20;
const KDC_UNREACHABLE: u32 = 0x96c7_3a9c;
const REALM_CANNOT_RESOLVE: u32 = 0x96c7_3adc;

/// The kinds of status for `gss_display_status`: of GSSAPI, and of Kerberos.
const GSS_CODE: c_int = 1;
const MECHANISM_CODE: c_int = 2;

/// How many messages of one status are read at most.
const MAX_MESSAGES: usize = 8;

#[repr(C)]
struct Buffer {
    length: usize,
    value: *mut c_void,
}

#[repr(C)]
struct Oid {
    length: u32,
    elements: *const c_void,
}

impl Buffer {
    const EMPTY: Self = Self { length: 0, value: null_mut() };

    fn of(bytes: &[u8]) -> Self {
        Self { length: bytes.len(), value: bytes.as_ptr().cast_mut().cast() }
    }
}

impl Oid {
    fn of(bytes: &'static [u8]) -> Self {
        Self { length: u32::try_from(bytes.len()).unwrap_or(0), elements: bytes.as_ptr().cast() }
    }
}

type Handle = *mut c_void;

/// The functions of the library.
struct Api {
    import_name: unsafe extern "C" fn(*mut u32, *const Buffer, *const Oid, *mut Handle) -> u32,
    release_name: unsafe extern "C" fn(*mut u32, *mut Handle) -> u32,
    #[allow(clippy::type_complexity, reason = "it is the signature of RFC 2744")]
    init_sec_context: unsafe extern "C" fn(
        *mut u32,
        Handle,
        *mut Handle,
        Handle,
        *const Oid,
        u32,
        u32,
        *const c_void,
        *const Buffer,
        *mut *const Oid,
        *mut Buffer,
        *mut u32,
        *mut u32,
    ) -> u32,
    delete_sec_context: unsafe extern "C" fn(*mut u32, *mut Handle, *mut Buffer) -> u32,
    wrap: unsafe extern "C" fn(*mut u32, Handle, c_int, u32, *const Buffer, *mut c_int, *mut Buffer) -> u32,
    unwrap: unsafe extern "C" fn(*mut u32, Handle, *const Buffer, *mut Buffer, *mut c_int, *mut u32) -> u32,
    release_buffer: unsafe extern "C" fn(*mut u32, *mut Buffer) -> u32,
    display_status: unsafe extern "C" fn(*mut u32, u32, c_int, *const Oid, *mut u32, *mut Buffer) -> u32,
    _library: Library,
}

impl Api {
    /// The library, which is loaded by the first call.
    fn loaded() -> Result<&'static Self> {
        static API: OnceLock<std::result::Result<Api, String>> = OnceLock::new();
        let api = API.get_or_init(|| Self::load(LIBRARIES));
        api.as_ref().map_err(|why| {
            Error::new(
                ErrorKind::Authentication,
                format!("the Kerberos library cannot be loaded: {}", printable_reason(why)),
            )
            .with_hint("install it: the package is libgssapi-krb5-2 on Debian and Ubuntu, krb5-libs on Fedora")
        })
    }

    fn load(names: &[&str]) -> std::result::Result<Self, String> {
        let mut why = String::new();
        for name in names {
            // SAFETY: the library is the system's own, and its initializers are safe to run at any time.
            match unsafe { Library::new(*name) } {
                // SAFETY: the functions have these signatures by RFC 2744.
                Ok(library) => return unsafe { Self::of(library) }.map_err(|error| reason(&error)),
                Err(error) => why = reason(&error),
            }
        }
        Err(why)
    }

    /// # Safety
    ///
    /// The library must be one of GSSAPI.
    unsafe fn of(library: Library) -> std::result::Result<Self, libloading::Error> {
        // SAFETY: said above.
        unsafe {
            Ok(Self {
                import_name: *library.get(b"gss_import_name\0")?,
                release_name: *library.get(b"gss_release_name\0")?,
                init_sec_context: *library.get(b"gss_init_sec_context\0")?,
                delete_sec_context: *library.get(b"gss_delete_sec_context\0")?,
                wrap: *library.get(b"gss_wrap\0")?,
                unwrap: *library.get(b"gss_unwrap\0")?,
                release_buffer: *library.get(b"gss_release_buffer\0")?,
                display_status: *library.get(b"gss_display_status\0")?,
                _library: library,
            })
        }
    }

    /// The bytes of a buffer that the library allocated, which is released.
    fn taken(&self, mut buffer: Buffer) -> Vec<u8> {
        if buffer.value.is_null() {
            return Vec::new();
        }
        // SAFETY: the library has set the pointer and the length, and gives the buffer to us.
        unsafe {
            let bytes = std::slice::from_raw_parts(buffer.value.cast::<u8>(), buffer.length).to_vec();
            (self.release_buffer)(&mut 0, &raw mut buffer);
            bytes
        }
    }

    /// What the library says about a status.
    fn text(&self, status: u32, kind: c_int) -> String {
        let (kerberos, mut more, mut texts) = (Oid::of(KERBEROS), 0, Vec::new());
        for _ in 0..MAX_MESSAGES {
            let mut text = Buffer::EMPTY;
            // SAFETY: all pointers are to values that live during the call.
            let major = unsafe {
                (self.display_status)(&mut 0, status, kind, &raw const kerberos, &raw mut more, &raw mut text)
            };
            texts.push(String::from_utf8_lossy(&self.taken(text)).into_owned());
            if more == 0 || major >> ERROR_SHIFT != 0 {
                break;
            }
        }
        printable_reason(&texts.join("; "))
    }
}

/// What the system says: the error itself only names the function that failed.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The client's side of one exchange with the service `service@host`.
pub struct Context {
    target: String,
    handles: Option<Handles>,
    is_established: bool,
}

struct Handles {
    api: &'static Api,
    name: Handle,
    context: Handle,
}

// SAFETY: the library lets any thread use a handle, if only one does at a time; nothing here is shared.
unsafe impl Send for Handles {}

impl Drop for Handles {
    fn drop(&mut self) {
        // SAFETY: the handles are the library's, or null, which it ignores; they are not used any more.
        unsafe {
            (self.api.delete_sec_context)(&mut 0, &raw mut self.context, null_mut());
            (self.api.release_name)(&mut 0, &raw mut self.name);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Context {
    /// A context for the broker at `host`. The library is loaded by the first step.
    pub fn new(service: &str, host: &str) -> Self {
        let target = format!("{service}@{}", host.strip_suffix('.').unwrap_or(host));
        Self { target, handles: None, is_established: false }
    }

    fn begin(&self) -> Result<Handles> {
        let api = Api::loaded()?;
        let (mut minor, mut name) = (0, null_mut());
        let (text, form) = (Buffer::of(self.target.as_bytes()), Oid::of(HOST_BASED_SERVICE));
        // SAFETY: all pointers are to values that live during the call.
        let major = unsafe { (api.import_name)(&raw mut minor, &raw const text, &raw const form, &raw mut name) };
        let handles = Handles { api, name, context: null_mut() };
        self.check(api, major, minor).map(|()| handles)
    }

    fn handles(&self) -> Result<&Handles> {
        self.handles.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "the Kerberos exchange has not begun"))
    }

    /// The error of a call, in a Kafka user's words.
    fn check(&self, api: &Api, major: u32, minor: u32) -> Result<()> {
        if major >> ERROR_SHIFT == 0 {
            return Ok(());
        }
        let target = printable_name(&self.target.replacen('@', "/", 1));
        let (what, hint) = match (major >> ERROR_SHIFT & 0xff, minor) {
            (_, UNKNOWN_SERVER) => (
                format!("Kerberos does not know the principal {target}"),
                "correct sasl.kerberos.service.name, or use the host name of the broker's principal",
            ),
            (CREDENTIALS_EXPIRED, _) | (_, TICKET_EXPIRED) => (
                "the Kerberos ticket has expired".into(),
                "get a new one with kinit, or name a keytab in KRB5_CLIENT_KTNAME",
            ),
            (_, KDC_UNREACHABLE | REALM_CANNOT_RESOLVE) => (
                "the Kerberos server (KDC) cannot be reached".into(),
                "is it running, and do krb5.conf and the DNS name it?",
            ),
            (NO_CREDENTIALS, UNKNOWN_CLIENT | PREAUTHENTICATION_FAILED | WRONG_KEY) => {
                ("Kerberos refuses the keytab".into(), "export it again, or name another one in KRB5_CLIENT_KTNAME")
            }
            (NO_CREDENTIALS, _) => {
                ("there is no Kerberos ticket".into(), "get one with kinit, or name a keytab in KRB5_CLIENT_KTNAME")
            }
            _ => (
                format!("Kerberos refuses the exchange with {target}"),
                "the broker's principal and both clocks must be right",
            ),
        };
        let said = [api.text(major, GSS_CODE), api.text(minor, MECHANISM_CODE)].join(": ");
        Err(Error::new(kind(minor), format!("{what} ({said})")).with_hint(hint))
    }
}

/// A server that is away may come back; any other failure stays until somebody corrects something.
fn kind(minor: u32) -> ErrorKind {
    match minor {
        KDC_UNREACHABLE | REALM_CANNOT_RESOLVE => ErrorKind::Disconnected,
        _ => ErrorKind::Authentication,
    }
}

impl GssContext for Context {
    fn step(&mut self, token: &[u8]) -> Result<Vec<u8>> {
        let mut handles = match self.handles.take() {
            Some(handles) => handles,
            None => self.begin()?,
        };
        let (input, kerberos) = (Buffer::of(token), Oid::of(KERBEROS));
        let (mut minor, mut output) = (0, Buffer::EMPTY);
        // SAFETY: all pointers are to values that live during the call, or null where RFC 2744 allows it.
        let major = unsafe {
            (handles.api.init_sec_context)(
                &raw mut minor,
                null_mut(),
                &raw mut handles.context,
                handles.name,
                &raw const kerberos,
                FLAGS,
                0,
                null(),
                &raw const input,
                null_mut(),
                &raw mut output,
                null_mut(),
                null_mut(),
            )
        };
        let output = handles.api.taken(output);
        self.check(handles.api, major, minor)?;
        self.is_established = major & CONTINUE_NEEDED == 0;
        self.handles = Some(handles);
        Ok(output)
    }

    fn is_established(&self) -> bool {
        self.is_established
    }

    fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        let Handles { api, context, .. } = self.handles()?;
        let (mut minor, input, mut output) = (0, Buffer::of(message), Buffer::EMPTY);
        // SAFETY: all pointers are to values that live during the call.
        let major =
            unsafe { (api.wrap)(&raw mut minor, *context, 0, 0, &raw const input, null_mut(), &raw mut output) };
        let output = api.taken(output);
        self.check(api, major, minor).map(|()| output)
    }

    fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        let Handles { api, context, .. } = self.handles()?;
        let (mut minor, input, mut output) = (0, Buffer::of(message), Buffer::EMPTY);
        // SAFETY: all pointers are to values that live during the call.
        let major = unsafe {
            (api.unwrap)(&raw mut minor, *context, &raw const input, &raw mut output, null_mut(), null_mut())
        };
        let output = api.taken(output);
        self.check(api, major, minor).map(|()| output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_an_error_and_not_a_crash() {
        let why = Api::load(&["libgssapi_that_nobody_has.so.2"]).err().unwrap();
        assert!(why.contains("libgssapi_that_nobody_has"), "{why}");
    }

    #[test]
    fn only_a_server_that_is_away_is_worth_another_try() {
        for (minor, expected) in [
            (0x96c7_3a9c, ErrorKind::Disconnected),
            (0x96c7_3adc, ErrorKind::Disconnected),
            (UNKNOWN_SERVER, ErrorKind::Authentication),
            (0, ErrorKind::Authentication),
        ] {
            assert_eq!(kind(minor), expected, "{minor:x}");
        }
    }

    #[test]
    fn before_the_first_step_nothing_can_be_protected() {
        let mut context = Context::new("kafka", "broker.example.");
        assert_eq!(format!("{context:?}"), "Context { target: \"kafka@broker.example\", .. }");
        assert!(!context.is_established() && context.wrap(b"").is_err() && context.unwrap(b"").is_err());
    }
}
