//! Values of the kinds that templates name.

use fastrand::Rng;

const KINDS: &[&str] = &[
    "int",
    "digit",
    "big",
    "float",
    "ip",
    "port",
    "hex",
    "address",
    "mac",
    "uuid",
    "path",
    "file",
    "url",
    "user",
    "host",
    "class",
    "method",
    "exception",
    "block",
    "job",
    "size",
    "optional_size",
    "duration",
    "date",
    "time",
    "word",
    "sentence",
    "numbers",
    "words",
    "version",
    "service",
    "package",
    "device",
    "status",
    "query",
    "optional_number",
    "interface",
    "name",
];

/// Whether `{kind}` stands for a value.
pub(crate) fn is_kind(kind: &str) -> bool {
    KINDS.contains(&kind)
}

const USERS: &[&str] = &[
    "root",
    "admin",
    "test",
    "guest",
    "oracle",
    "postgres",
    "alice",
    "bob",
    "carol",
    "deploy",
    "git",
    "www-data",
    "nagios",
    "backup",
    "ubuntu",
    "pi",
    "support",
    "ftpuser",
    "mysql",
    "user1",
    "jenkins",
    "svc_batch",
    "j.doe",
    "m.mustermann",
    "x",
    "operator",
    "hadoop",
    "web01",
    "news",
    "cyrus",
    "uucp",
    "webmaster",
    "info",
    "sales",
    "tomcat",
    "student",
    "monitor",
    "zabbix",
];
const HOSTS: &[&str] = &[
    "node-1",
    "node-2",
    "db01",
    "web17",
    "cache.internal",
    "ip-10-0-3-7.ec2.internal",
    "mail.example.org",
    "ns1.example.org",
    "gateway",
    "localhost",
    "desktop-4kq",
    "build07",
    "bastion.corp.example.com",
    "worker-a",
    "worker-b",
    "tftp",
    "printer",
    "lb.example.net",
    "adsl-83-10.dynamic.example.net",
    "rack3-u17",
    "elastic",
    "kafka-2",
    "zk3",
    "storage.local",
];
const WORDS: &[&str] = &[
    "alpha",
    "orders",
    "billing",
    "cart",
    "session",
    "default",
    "primary",
    "replica",
    "staging",
    "production",
    "frontend",
    "reports",
    "archive",
    "nightly",
    "invoice",
    "inventory",
    "search",
    "payments",
    "checkout",
    "catalog",
    "users",
    "events",
    "metrics",
    "audit",
    "shadow",
    "blue",
    "green",
    "canary",
    "export",
    "import",
    "legacy",
    "temp",
    "cold",
    "warm",
    "hot",
    "misc",
];
const CLASSES: &[&str] = &[
    "com.example.shop.Cart",
    "com.example.shop.OrderService",
    "org.example.io.Reader",
    "java.util.HashMap",
    "org.example.net.Client",
    "com.example.auth.TokenFilter",
    "com.example.db.Pool",
    "org.example.Main",
    "io.example.grpc.Channel",
    "CartController",
    "OrderListener",
    "TaskRunner",
];
const EXCEPTIONS: &[&str] = &[
    "java.io.IOException",
    "java.net.ConnectException",
    "java.lang.NullPointerException",
    "java.net.SocketTimeoutException",
    "java.io.EOFException",
    "java.lang.InterruptedException",
    "java.util.concurrent.TimeoutException",
    "java.lang.IllegalStateException",
];
const METHODS: &[&str] = &[
    "getItems",
    "putItem",
    "deleteItem",
    "listOrders",
    "heartbeat",
    "registerNode",
    "commit",
    "rollback",
    "getStatus",
    "allocate",
];
const SERVICES: &[&str] = &[
    "crond",
    "sshd",
    "nginx",
    "chronyd",
    "rsyslogd",
    "dbus",
    "NetworkManager",
    "bluetooth",
    "cups",
    "postfix",
    "avahi-daemon",
    "udevd",
    "polkit",
    "acpid",
];
const PACKAGES: &[&str] = &[
    "com.android.systemui",
    "com.example.mail",
    "com.example.maps",
    "org.example.reader",
    "com.google.android.gms",
    "com.example.music",
    "com.example.camera",
    "android",
    "com.example.bank.app",
    "org.example.chat",
];
const DEVICES: &[&str] = &["sda", "sdb", "sdc", "hda", "nvme0n1", "dm-0", "md127", "sr0", "loop3"];
const INTERFACES: &[&str] = &["eth0", "eth1", "en0", "bond0", "lo", "wlan0", "docker0", "awdl0"];
const STATUSES: &[&str] = &["200", "201", "204", "301", "304", "400", "401", "404", "500", "503"];
const DIRECTORIES: &[&str] = &[
    "/var/log",
    "/etc",
    "/usr/lib/example",
    "/tmp",
    "/home/alice/work",
    "/data/part-00017",
    "/opt/app/conf",
    "/mnt/hadoop/dfs/data/current",
    "/srv",
];
const FILES: &[&str] = &[
    "app.log",
    "config.yaml",
    "core",
    "index.html",
    "report.pdf",
    "lib.so.6",
    "data.bin",
    "messages",
    "job.xml",
    "snapshot.100a3b",
];
const NAMES: &[&str] = &[
    "Anna Schmidt",
    "Bob",
    "Carlos de la Cruz",
    "Dora Meyer",
    "Eve",
    "Farid Ben Ali",
    "Grace Lee",
    "Heinz",
    "Ines Maria Lopez",
    "Jo",
    "Kim Lee",
    "Lars Olsen",
    "Maria",
    "Nils Berg",
    "Olga",
    "Peter Paul Mann",
    "Quentin",
    "Rosa Diaz",
    "Sven",
    "Tina Braun",
    "Uwe Klein",
    "Vera",
    "Walter von Stein",
    "Xenia Popova",
    "Yusuf",
    "Zoe Martin",
    "Ada",
    "Bruno Costa",
    "Chen Wei",
    "Dirk van Dam",
];
const SENTENCES: &[&str] = &[
    "connection reset by peer",
    "no route to host",
    "disk quota exceeded",
    "timed out",
    "permission denied",
    "broken pipe",
    "no such file or directory",
    "invalid argument",
    "operation not permitted",
    "address already in use",
    "end of file",
];
const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct"];
const DAYS: &[&str] = &["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Makes values; remembers a few, for logs repeat themselves.
pub(crate) struct Values {
    addresses: Vec<String>,
    blocks: Vec<String>,
}

impl Values {
    pub(crate) fn new(random: &mut Rng) -> Self {
        let addresses = (0..40)
            .map(|_| format!("10.{}.{}.{}", random.u8(..), random.u8(..), random.u8(1..)))
            .collect();
        let blocks = (0..300).map(|_| random.i64(..).to_string()).collect();
        Self { addresses, blocks }
    }

    /// Appends a value.
    pub(crate) fn append(&mut self, kind: &str, random: &mut Rng, out: &mut String) {
        let value = match kind {
            "int" => random.u32(..100_000).to_string(),
            "digit" => random.u8(..10).to_string(),
            "big" => random.u64(..).to_string(),
            "float" => format!("{:.3}", random.f64() * 100.0),
            "ip" => pick(random, &self.addresses).clone(),
            "port" => random.u16(1024..).to_string(),
            "hex" => format!("{:08x}", random.u32(..)),
            "address" => format!("0x{:012x}", random.u64(..1 << 48)),
            "mac" => {
                let bytes: Vec<String> = (0..6).map(|_| format!("{:02x}", random.u8(..))).collect();
                bytes.join(":")
            }
            "uuid" => uuid(random),
            "path" => format!("{}/{}", pick(random, DIRECTORIES), pick(random, FILES)),
            "file" => (*pick(random, FILES)).to_owned(),
            "url" => format!(
                "https://{}/{}/{}",
                pick(random, HOSTS),
                pick(random, WORDS),
                random.u16(..)
            ),
            "user" => (*pick(random, USERS)).to_owned(),
            "host" => (*pick(random, HOSTS)).to_owned(),
            "class" => (*pick(random, CLASSES)).to_owned(),
            "method" => (*pick(random, METHODS)).to_owned(),
            "exception" => (*pick(random, EXCEPTIONS)).to_owned(),
            "block" => format!("blk_{}", pick(random, &self.blocks)),
            "job" => format!("{}_{:04}", 1_445_000_000_000 + random.u64(..1 << 20), random.u8(..)),
            "size" => size(random),
            "optional_size" if random.bool() => String::new(),
            "optional_size" => format!(" ({})", size(random)),
            "optional_number" if random.bool() => String::new(),
            "optional_number" => random.u16(..).to_string(),
            "duration" => {
                format!("{} {}", random.u16(..), pick(random, &["ms", "s", "sec", "seconds", "us"]))
            }
            "date" => format!(
                "{} {} {} {:02}:{:02}:{:02} 20{:02}",
                pick(random, DAYS),
                pick(random, MONTHS),
                random.u8(1..29),
                random.u8(..24),
                random.u8(..60),
                random.u8(..60),
                random.u8(10..30)
            ),
            "time" => {
                format!("{:02}:{:02}:{:02}", random.u8(..24), random.u8(..60), random.u8(..60))
            }
            "word" => (*pick(random, WORDS)).to_owned(),
            "sentence" => (*pick(random, SENTENCES)).to_owned(),
            "numbers" => {
                let count = random.usize(1..9);
                let numbers: Vec<String> = (0..count).map(|_| random.u8(..).to_string()).collect();
                numbers.join(", ")
            }
            "words" => {
                let count = random.usize(1..5);
                let words: Vec<&str> = (0..count).map(|_| *pick(random, WORDS)).collect();
                words.join(", ")
            }
            "version" => format!("{}.{}.{}", random.u8(..9), random.u8(..20), random.u8(..20)),
            "service" => (*pick(random, SERVICES)).to_owned(),
            "package" => (*pick(random, PACKAGES)).to_owned(),
            "device" => (*pick(random, DEVICES)).to_owned(),
            "interface" => (*pick(random, INTERFACES)).to_owned(),
            "status" => (*pick(random, STATUSES)).to_owned(),
            "name" => (*pick(random, NAMES)).to_owned(),
            "query" => format!("page={}&q={}", random.u8(..), pick(random, WORDS)),
            _ => unreachable!("{kind} is not a kind"),
        };
        out.push_str(&value);
    }
}

/// One of these; the first half three times as often as the second.
fn pick<'a, T>(random: &mut Rng, of: &'a [T]) -> &'a T {
    let reach = if random.u8(..4) == 0 { of.len() } else { of.len().div_ceil(2) };
    &of[random.usize(..reach)]
}

fn size(random: &mut Rng) -> String {
    let unit = pick(random, &["bytes", "KB", "MB", "B", "KiB", "GB"]);
    if random.bool() {
        format!("{} {unit}", random.u16(..))
    } else {
        format!("{:.1} {unit}", random.f64() * 1000.0)
    }
}

fn uuid(random: &mut Rng) -> String {
    let digits = format!("{:032x}", random.u128(..));
    format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    )
}
