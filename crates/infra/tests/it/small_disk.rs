//! The disk that tests fill is full, and nobody else's.

use std::fs;
use std::process::Command;

use infra::SmallDisk;

fn inside(disk: &SmallDisk, script: &str) -> (bool, String) {
    let (program, arguments) = disk.enter();
    let output = Command::new(program)
        .args(arguments)
        .args(["sh", "-c", script, "inside"])
        .arg(disk.path().join("file"))
        .output()
        .expect("nsenter is on every Linux");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_small_disk_is_full_until_there_is_room_and_gone_when_dropped() {
    let disk = match SmallDisk::new(1 << 20) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("NOT RUN: {why}"),
    };
    let write = r#"head -c 100000 /dev/zero > "$1""#;
    assert!(inside(&disk, write).0, "there is room at first");
    disk.fill().expect("to the last byte");
    let (written, said) = inside(&disk, &write.replace("> ", ">> "));
    assert!(!written && said.contains("No space left"), "{said}");
    disk.make_room().expect("it was full");
    assert!(inside(&disk, &write.replace("> ", ">> ")).0, "there is room again");
    let file = disk.seen_from_outside().join("file");
    assert!(fs::metadata(file).expect("it is seen from outside").len() >= 200_000);
    let here = disk.path().to_owned();
    assert_eq!(fs::read_dir(&here).expect("the mount point").count(), 0, "seen by others, too");
    drop(disk);
    assert!(!here.exists());
}
