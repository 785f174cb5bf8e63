// Threefry-2x32 with 20 rounds (Salmon et al., 2011); the bits of element `counter` are both
// words of its block xored.
fn threefry(key0: u32, key1: u32, counter: u32) -> u32 {
    let key2 = 0x1bd11bdau ^ key0 ^ key1;
    var x = key0;
    var z = counter + key1;
    var a = key1;
    var b = key2;
    var c = key0;
    for (var group = 1u; group <= 5u; group++) {
        let odd = (group & 1u) == 1u;
        let r = select(vec4<u32>(17u, 29u, 16u, 24u), vec4<u32>(13u, 15u, 26u, 6u), odd);
        x += z;
        z = ((z << r.x) | (z >> (32u - r.x))) ^ x;
        x += z;
        z = ((z << r.y) | (z >> (32u - r.y))) ^ x;
        x += z;
        z = ((z << r.z) | (z >> (32u - r.z))) ^ x;
        x += z;
        z = ((z << r.w) | (z >> (32u - r.w))) ^ x;
        x += a;
        z += b + group;
        let first = a;
        a = b;
        b = c;
        c = first;
    }
    return x ^ z;
}
