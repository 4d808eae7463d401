-- Made by tests/fixtures/make_unicode.py, which says what the numbers (base 36) mean;
-- Unicode 14.0.0. Read by lumen.unicode.
return {
  letters = [[
1t q 6 q 1b 1 a 1 4 1 5 n 1 v 1 cq 4 c e 5 7 1 1 1 3l 5 1 2 2 4 1 1 6 1 1 3 1 1 1 k 1 2b 1 3v 8
4m 1 12 1 2 6 15 2 2 1v r 4 4 19 17 z 2 1 2r 1 1 f 2 7 2 a 3 2 1 g 1 1 u t 2h b 1 o x 9 2 4 1 5
m 4 1 9 1 3 1 n p 7 b 5 o 1 7 g 16 1m 1i 3 1 i 1 7 a f g 4 8 2 2 2 m 1 7 1 1 3 4 3 1 g 1 d 2 1 3
e 2 a 1 8 6 4 2 2 m 1 7 1 2 1 2 1 2 v 4 1 1 j 3 g 9 1 3 1 m 1 7 1 2 1 5 3 1 i 1 f 2 n 1 b 8 2 2
2 m 1 7 1 2 1 5 3 1 u 2 1 3 f 1 h 1 1 6 3 3 1 4 3 2 1 1 1 2 3 2 3 3 3 c m 1 1g 8 1 3 1 n 1 g 3 1
q 3 1 2 2 2 u 1 4 8 1 3 1 n 1 a 1 5 3 1 u 3 1 2 f 2 h 9 1 3 1 15 2 1 g 1 5 3 8 3 o 6 5 i 3 o 1 9
1 1 2 7 1m 1c 1 2 c 7 1m 2 1 1 1 5 1 o 1 1 1 a 1 2 9 1 2 5 1 1 l 4 w 1 1r 8 1 10 r 5 37 17 k 1 g
6 4 4 3 1 3 2 7 3 4 d c 1 h 12 1 1 5 1 2 17 1 99 1 4 2 7 1 1 1 4 2 15 1 4 2 x 1 4 2 7 1 1 1 4 2
f 1 1l 1 4 2 1v 11 g g 2e 2 6 3 h8 2 h 1 q 5 23 6 8 7 i d j e i e d 1 3 f 1g z 1 4 1 1v 2h 7 5 2
y 1 1 5 1y a v 1d u 2 5 b 18 4 q 1i n 9 1h 2a 1 2l 1b h 8 1i u d 2 a 18 q 10 15 3 a 10 2 b 5 17
2 3 15 4 1 6 1 2 3 1 5 5c 1s 7q 2 6 2 12 2 6 2 8 1 1 1 1 1 1 1 v 2 1h 1 7 1 1 3 3 1 7 3 4 2 6 4
d 5 3 1 7 38 1 d 1 f h 2q 1 4 1 2 a 1 1 3 5 6 1 1 1 1 1 1 4 1 b 2 4 5 5 4 1 1g 2 22j 6d 6 4 3 2
c 12 1 1 5 1 2 1k 7 1 g n 9 7 1 7 1 7 1 7 1 7 1 7 1 7 1 7 28 1 d1 2 16 5 5 2 4 2e 6 3 1 2i 1 4 5
17 1 2m h w 1c g e8 534 1s h3h 1v 1a 2 7h 3 g a 2 k 1b g v 2 1y 1d 9 2 2v 2 2b 4 1 e h 1 3 1 4 1
n t 1g e 1e 1q 6 3 1 1 2 b s a n p t 7 1b s 1 g 5 1 a a 5 1 15 n 3 1 8 k n 3 1 3 1e 1 1 3 2 2 5
2 1 1 1 o 3 2 b 7 3 c 6 2 6 2 6 9 7 1 7 1 17 1 e 2 2 2 37 t 8mc c n 4 1d 6is a6 2 2y 12 7 c 5 5
1 1 a 1 d 1 5 1 1 1 2 1 2 1 30 x a3 i 1s 2 1i 14 c 38 5 1 3r 10 q 6 q b 2h 3 6 2 6 2 6 2 3 z c 1
q 1 j 1 2 1 f 2 e y 3f at t 3 1d 1b w d k 1 8 6 12 a u 2 10 4 8 1c 4e i 10 4 10 4 14 8 1g c b 1
f 1 7 1 2 1 b 1 f 1 7 1 2 3 1g c 8n 9 m a 8 o 6 1 16 1 e 1s 6 2 1 1 18 1 2 3 1 2 n a n 9 v 1t j
1 2 a m a q 6 q 12 1k 6 2 1s 1 f 4 1 3 1 t 16 t 3 t z 8 1 s r 1i a m a j d i 32 21 1j 1f d 1f d
10 12 s 9 n 6y 16 6 2 g 6 h m h t a 1 8 m 16 i 1a l r n c 1h 1l 2 2 1 d 19 w p q 10 t 1 2 1 8 z
3 1 c 1c e 4 l 1 1 1 z i 1 p j 2 1r 7 1 1 1 4 1 f 1 a 7 1b 12 8 2 2 2 m 1 7 1 2 1 5 3 1 i 1 c 5
u a 1 1 2 1 1 12 1 1 p 1 1 1 18 1h i 4 k 3 u 1c k 2 1 1 54 1b 15 4 10 1c k 1 1n 17 d 1 1z r 11 7
55 18 38 1s v 8 2 1 2 8 1 2 1 o f 1 1 1 2m 8 2 13 g 1 1 1 s 1 a 14 7 1 l 1 b 1a j 1 i 21 h 1 51
x v 9 1 11 h 1 1d u 34 7 1 2 1 12 l 1 p 6 1 2 1 w e 1 n 18 l 1 6m j f 1 1 d 1 y 3g 1 27 pm 6e 5g
218 2p f ts h 6 p 32z 5 g7 5a1 u 1cy ft 7 v h 27 h u i 1c g 4 v l 5 j c0 19 5v 1s w p 2 p 18 23
5 1 1u d 1s 2 1 1 e 2 c 5p7 10 y 2n 37 d pe e 1f 5y5 4 1 7 1 2 1 89 9 1 t 3 2 1 e 5 7 b0 1s4 2z
5 d 3 9 7 a 4me 2d 1 1z 1 2 2 1 2 2 2 4 1 c 1 1 1 7 1 1t 1 4 2 8 1 7 1 s 1 4 1 5 1 1 3 7 1 9h 1
p 1 p 1 v 1 p 1 v 1 p 1 v 1 p 1 v 1 p 1 8 1f8 3m e 7 1i 1f 1c 1q 42 19 a 7 g 1 8x u i 18 dg s 6c
u 2 1 5r v 1 3 1 2 1 7 2 5 9 2 68 7 1 4 1 2 1 f 1 5h 1n 1w 7 1 xg 4 1 r 1 2 1 1 2 1 1 a 1 4 1 1
1 1 6 1 4 1 1 1 1 1 1 3 1 2 1 1 2 1 1 1 1 1 1 1 1 1 1 2 1 1 2 4 1 7 1 4 1 4 1 1 1 a 1 h 5 3 1 5
1 h 3es wyo w 3dr 1 4ge 2 5rl f ha 1wi f2 15u 3t7 5 6ju upy 8qo]],
  numbers = [[
1c a 3c 2 5 1 2 3 141 a 3q a 5i a bg a 3a a 4 6 30 a 3a a 3a a 2 6 32 d 37 a 8 7 2v a 2w 7 7 j
31 a 2o a 3a a 1y k 7g a 1y a jz k oh 3 6n a 6 a m a 8c a 3k b 4l a 6 a 52 a 2e a 3q a 6 a t2 1
3 6 6 a 5i 1f 2 5 k6 1o 26 m hi u 12h 1 ll 1 p 9 e 3 9j 4 3u a u 8 1 f w a 13 f msg a 58 a 8w 6
4a a 12 a 5i a m a 2e a ba a geu a dp 19 c 1l h 2 9h r 10 4 t 1 8 1 3q 5 5m a q6 8 p 7 13 9 23 5
m 6 4g 2 2 g 2 1a 1s 9 1g 2 u 3 23 5 2w 8 o 8 15 7 96 6 1c a 6 a 7q v 4e a 16 4 34 7 3q u 3k a
1o a 40 a 7 k 6z a 9i a 3a a ae a 2u a 6 k 24 c bo j 2l a ie a 2e t 6b a 1y a 1i a 9y a 2u l tn
34 5 b 5s 8n bl5 a 1t2 a 2e a 3q a 1 7 em a 7a n 9p 3 id5 a 152 k c k 30 p ut 1e 1ts a bq a dy a
6v a jw 9 3k a lz 1n 1 3 1 4 24 19 1 f qq d 25f a]],
  lower = [[
1t q 1 w 2t n 1 w 1 7 1 w x o 2 1 3 3 2 1 2 8 2 1 2 n 2 1 1 1 2 -3d 0 3 2 1 3 1 2 5u 0 2 2 1 1 1
2 5q 0 1 2 1 1 2 1 5p 0 1 2 1 2 1 2 27 0 1 2 5m 0 1 2 5n 0 1 2 1 1 1 2 5p 0 1 2 5r 1 1 2 5v 0 1
2 5t 0 1 2 1 3 1 2 5v 0 1 2 5x 1 1 2 5y 0 3 2 1 1 1 2 62 0 1 2 1 1 1 2 62 2 1 2 1 1 1 2 62 0 1 2
1 1 2 1 61 0 2 2 1 1 1 2 63 0 1 2 1 3 1 2 1 7 1 2 2 0 1 2 1 1 1 2 2 0 1 2 1 1 1 2 2 0 9 2 1 2 9
2 1 2 1 2 2 0 2 2 1 1 1 2 -2p 0 1 2 -1k 0 k 2 1 1 1 2 -3m 1 9 2 1 7 1 2 8bv 0 1 2 1 1 1 2 -4j 0
1 2 8bs 2 1 2 1 1 1 2 -5f 0 1 2 1x 0 1 2 1z 0 5 2 1 81 2 2 1 3 1 2 1 8 1 2 38 6 1 2 12 1 3 1 11
1 1 2 1s 1 2 1 1r 1 h 1 w 1 9 1 w z 1 2 8 8 c 2 1 5 1 2 -1o 2 1 2 1 1 1 2 -7 0 1 2 1 2 3 1 -3m 0
g 1 28 0 w 1 w 1c h 2 1 9 r 2 1 1 1 2 f 0 7 2 1 2 1c 2 1 2 12 1 1c 289 12 1 5ls 1 1 2 5ls 5 1 2
5ls k2 28 1 tzk 0 6 1 8 1p6 17 1 -2bk 2 3 1 -2bk 8w 23 2 1 9 1 2 -5vj 1 1c 2 1 9 8 1 -8 8 6 1 -8
a 8 1 -8 8 8 1 -8 8 6 1 -8 b 4 2 -8 8 8 1 -8 o 8 1 -8 8 8 1 -8 8 8 1 -8 8 2 1 -8 0 2 1 -22 0 1 2
-9 b 4 1 -2e 0 1 2 -9 b 2 1 -8 0 2 1 -2s c 2 1 -8 0 2 1 -34 0 1 2 -7 b 2 1 -3k 0 2 1 -3i 0 1 2
-9 89 1 2 -5st 3 1 2 -6gv 0 1 2 -6di 6 1 2 s 19 g 1 g j 1 2 1 mq q 1 q 1f4 1c 1 1c 1c 1 2 1 1 1
2 -8af 0 1 2 -2xy 0 1 2 -89z 2 3 2 1 1 1 2 -8bg 0 1 2 -8al 0 1 2 -8bj 0 1 2 -8bi 1 1 2 1 2 1 2 1
8 2 1 -8cf 0 1e 2 1 8 2 2 1 4 1 2 1 nyl n 2 1 j e 2 1 3r 7 2 1 3 v 2 1 a 2 2 1 1 1 2 -r9g 0 5 2
1 4 1 2 1 1 1 2 -wmg 2 2 2 1 3 a 2 1 1 1 2 -wn8 0 1 2 -wnj 0 1 2 -wnf 0 1 2 -wn5 0 1 2 -wn8 1 1
2 -wlu 0 1 2 -wmi 0 1 2 -wlx 0 1 2 ps 0 8 2 1 1 1 2 -1c 0 1 2 -wn7 0 1 2 -raw 0 2 2 1 6 1 2 1 5
2 2 1 s 1 2 1 h7v q 1 w xx 14 1 14 3s 10 1 14 4c b 1 13 1 f 1 13 1 7 1 13 1 2 1 13 1d6 1f 1 1s
2ct w 1 w gw0 w 1 w o80 y 1 y]],
  classes = [[
lc l 6e 0 1 6g 0 4 64 0 1 6g 0 1 60 0 5 64 0 2 5m 0 4 64 0 2 5m 0 b 64 0 5 1 0 4 64 0 8 6e 0 1
6o 0 1 6e 0 3 64 0 3 6e 0 2 64 1 3 6e 0 4 64 0 1 6e 0 1 6g 0 2 64 0 1 6e 0 1 6h 0 2 6i 0 1 6h 0
2 6i 0 1 6h 0 d 6e 7n 5 6e 7d 1 64 0 4 6e 0 1 64 0 3 6e 0 1 66 0 1 64 0 6 6e 0 6 64 0 2 6e 0 1
64 0 2 6e 0 1 66 0 1 6c 0 1 6e 0 1 a 0 1 b 0 1 c 0 1 d 0 1 e 0 1 f 0 1 g 0 1 h 0 1 i 0 2 j 0 1 k
0 1 l 0 1 m 1 1 n 1 1 o 0 1 p 1 1 6e 0 1 64 1 1 i 20 8 6e 0 1 u 0 1 v 0 1 w 1c 1 r 0 1 s 0 1 t 0
1 u 0 1 v 0 1 w 0 1 x 0 1 y 0 2 6e 0 2 64 0 5 6e 0 1 64 0 2 6e 0 1 64 g 1 z 2t 7 6e 2 4 6e 0 1
64 0 1 6e 2 2 6e 1 1 64 0 2 6e 0 1 64 z 1 10 u 1 6e 0 1 64 0 2 6e 0 1 64 0 2 6e 0 3 64 0 1 6e 0
2 64 0 1 6e 0 1 64 0 3 6e 0 1 64 0 1 6e 0 1 64 0 1 6e 0 1 64 0 1 6e 0 1 64 0 2 6e 4g 7 6e 0 1 64
0 1 6e 9 1 64 o 4 6e 1 9 6e 1 3 6e 1 5 6e 17 3 64 1o 1 6e 0 3 64 0 4 6e 16 5 6e 0 5 64 0 e 6e 1
1 64 0 2 6e 0 1 64 0 2 6e 0 1 64 0 3 6e 0 3 64 0 1 r 0 1 s 0 1 t 0 3 6e 0 1 64 0 2 6e 0 2 64 0 5
6e 1o 1 7 g 1 9 3 1 6e 0 1 64 0 2 6e 2v 1 7 g 1 9 1c 1 6e 1p 1 7 g 1 9 32 1 7 g 1 9 32 1 7 g 1 9
3j 1 9 32 1 7 g 1 9 7 1 2c 0 1 2j 2t 1 7 g 1 9 31 2 9 g 1 9 3g 1 9 31 2 2v 0 1 9 d 4 2z 30 2 3a
0 1 9 d 4 3e 24 2 64 r 1 64 1 1 64 1 1 60 1j 1 3l 0 1 3m 1 1 3o 5 4 3m 2 1 3m 1 2 6e 0 1 9 1 2
6e 1q 1 64 34 1 7 1 2 9 2a 1 64 jz 3 6e qc 2 9 u 1 9 4d 1 9 a 1 6e 5n 1 6c 3z 1 66 0 1 6e 0 1 64
63 1 6e 0 1 64 1z 1 9 k 8 6e 2 1 64 1c 5 6e 0 6 64 0 2 6e 0 1 64 1 2 64 0 2 6e 0 2 64 0 5 6e 0 1
64 0 4 6e 2t 1 7 f 1 9 12 1 6e 0 1 64 0 7 6e 1i 2 9 1m 1 7 b 2 9 1v 1 7 48 3 6e 1 1 1 0 5 64 0 2
6e 0 4 64 0 1 6e 1 7 1 4 1 64 6 1 6e 3 2 6e 5i 2 6e 0 1 64 0 7 6e 0 1 64 0 2 6e 0 1 6i 0 1 5y 0
1 64 0 1 5m 0 11 6e 0 1 6g 0 2 6c 0 1 64 0 1 62 0 1 6e 0 1 6h 0 1 64 0 1 6e 0 1 64 k0 2 6e 0 2 1
0 4 6e 0 3 1 0 2 6e 4 1 6e 3 2 1 0 1 6e 0 1 64 0 1 6e 0 2 1 0 4 64 0 1 6e 2da 3 6e 3x 1 9 2o w
6e fe 1 62 0 1 6c 0 1 6g 0 1 66 0 2 68 2x 2 8 n9w 1 6e 4 a 6e w 2 6e 28 2 6e 7o 1 9 11 1 9 47 1
9 r i 6e 1l 3 64 11 1 9 2n 1 7 c 1 9 6n 1 6e 1 2 6e 0 1 64 2 2 6e 5 2 6e 1 1 6e 1g 1 9 6u 1 9
fn4 1 q ld 7 6e 0 7 64 0 2 6e r1 1 64 6a 1 64 45 5 6e 1aq 1 64 1 1 6e 14 1 6e 0 1 1 0 1 64 4 1 9
4l 1 6e 0 1 64 fx 4 6e ar 2 6e 49 2 64 0 3 6e 0 1 64 0 1 6e 0 4 64 1d 1 6e 0 1 64 0 1 6e 0 1 64
5c 1 9 15 1 9 e 1 9 1l 1 9 0 1 7 1x 3 6e 1c 2 9 1q 1 7 24 1 9 9 1 7 2y 1 9 0 1 7 4y 1 7 0 1 9 28
2 7 g 1 9 o 7 6e 3 5 6e 5p 1 9 3 1 7 n 1 6e 2r 1 9 0 1 7 6z 1 9 0 1 7 3i 1 9 3a 1 9 0 1 7 37 1 9
7h 1 9 0 1 7 76 2 9 4 1 7 4c 1 9 2b 1 9 i 1 9 29 1 9 bp 1 9 76 1 7 1 2 9 29 1 9 fa0 5 1 1n 7 6e
xl 2 6 f58 1 1 43q 2 60 0 3 1 3 1 6a 0 5 60 8 8 64 2 5 6e 0 2 64 u 4 6e 44 3 6e 2pn 7 6e 1 h 6e
2 7 6e 1 2 6e 1 5 6e 79 7 6e af 1 6e 1p 4 6e 15s 7 64 31 6 6e 0 1 7]],
  decompositions = [[
5c 3 1t lc 0 3 1t ld 0 3 1t le 0 3 1t lf 0 3 1t lk 0 3 1t lm 1 3 1v mf 0 3 1x lc 0 3 1x ld 0 3
1x le 0 3 1x lk 0 3 21 lc 0 3 21 ld 0 3 21 le 0 3 21 lk 1 3 26 lf 0 3 27 lc 0 3 27 ld 0 3 27 le
0 3 27 lf 0 3 27 lk 2 3 2d lc 0 3 2d ld 0 3 2d le 0 3 2d lk 0 3 2h ld 2 3 2p lc 0 3 2p ld 0 3 2p
le 0 3 2p lf 0 3 2p lk 0 3 2p lm 1 3 2r mf 0 3 2t lc 0 3 2t ld 0 3 2t le 0 3 2t lk 0 3 2x lc 0 3
2x ld 0 3 2x le 0 3 2x lk 1 3 32 lf 0 3 33 lc 0 3 33 ld 0 3 33 le 0 3 33 lf 0 3 33 lk 2 3 39 lc
0 3 39 ld 0 3 39 le 0 3 39 lk 0 3 3d ld 1 3 3d lk 0 3 1t lg 0 3 2p lg 0 3 1t li 0 3 2p li 0 3 1t
mg 0 3 2p mg 0 3 1v ld 0 3 2r ld 0 3 1v le 0 3 2r le 0 3 1v lj 0 3 2r lj 0 3 1v lo 0 3 2r lo 0 3
1w lo 0 3 2s lo 2 3 1x lg 0 3 2t lg 0 3 1x li 0 3 2t li 0 3 1x lj 0 3 2t lj 0 3 1x mg 0 3 2t mg
0 3 1x lo 0 3 2t lo 0 3 1z le 0 3 2v le 0 3 1z li 0 3 2v li 0 3 1z lj 0 3 2v lj 0 3 1z mf 0 3 2v
mf 0 3 20 le 0 3 2w le 2 3 21 lf 0 3 2x lf 0 3 21 lg 0 3 2x lg 0 3 21 li 0 3 2x li 0 3 21 mg 0 3
2x mg 0 3 21 lj 3 3 22 le 0 3 2y le 0 3 23 mf 0 3 2z mf 1 3 24 ld 0 3 30 ld 0 3 24 mf 0 3 30 mf
0 3 24 lo 0 3 30 lo 4 3 26 ld 0 3 32 ld 0 3 26 mf 0 3 32 mf 0 3 26 lo 0 3 32 lo 3 3 27 lg 0 3 33
lg 0 3 27 li 0 3 33 li 0 3 27 ln 0 3 33 ln 2 3 2a ld 0 3 36 ld 0 3 2a mf 0 3 36 mf 0 3 2a lo 0 3
36 lo 0 3 2b ld 0 3 37 ld 0 3 2b le 0 3 37 le 0 3 2b mf 0 3 37 mf 0 3 2b lo 0 3 37 lo 0 3 2c mf
0 3 38 mf 0 3 2c lo 0 3 38 lo 2 3 2d lf 0 3 39 lf 0 3 2d lg 0 3 39 lg 0 3 2d li 0 3 39 li 0 3 2d
lm 0 3 39 lm 0 3 2d ln 0 3 39 ln 0 3 2d mg 0 3 39 mg 0 3 2f le 0 3 3b le 0 3 2h le 0 3 3d le 0 3
2h lk 0 3 2i ld 0 3 3e ld 0 3 2i lj 0 3 3e lj 0 3 2i lo 0 3 3e lo x 3 27 m3 0 3 33 m3 d 3 2d m3
0 3 39 m3 s 3 1t lo 0 3 2p lo 0 3 21 lo 0 3 2x lo 0 3 27 lo 0 3 33 lo 0 3 2d lo 0 3 39 lo 0 3 64
lg 0 3 70 lg 0 3 64 ld 0 3 70 ld 0 3 64 lo 0 3 70 lo 0 3 64 lc 0 3 70 lc 1 3 5g lg 0 3 6c lg 0 3
fa lg 0 3 fb lg 0 3 5i lg 0 3 6e lg 2 3 1z lo 0 3 2v lo 0 3 23 lo 0 3 2z lo 0 3 27 mg 0 3 33 mg
0 3 dm lg 0 3 dn lg 0 3 c7 lo 0 3 ia lo 0 3 2y lo 3 3 1z ld 0 3 2v ld 2 3 26 lc 0 3 32 lc 0 3 5h
ld 0 3 6d ld 0 3 5i ld 0 3 6e ld 0 3 60 ld 0 3 6w ld 0 3 1t lr 0 3 2p lr 0 3 1t lt 0 3 2p lt 0 3
1x lr 0 3 2t lr 0 3 1x lt 0 3 2t lt 0 3 21 lr 0 3 2x lr 0 3 21 lt 0 3 2x lt 0 3 27 lr 0 3 33 lr
0 3 27 lt 0 3 33 lt 0 3 2a lr 0 3 36 lr 0 3 2a lt 0 3 36 lt 0 3 2d lr 0 3 39 lr 0 3 2d lt 0 3 39
lt 0 3 2b me 0 3 37 me 0 3 2c me 0 3 38 me 2 3 20 lo 0 3 2w lo 6 3 1t lj 0 3 2p lj 0 3 1x mf 0 3
2t mf 0 3 5y lg 0 3 6u lg 0 3 5x lg 0 3 6t lg 0 3 27 lj 0 3 33 lj 0 3 fi lg 0 3 fj lg 0 3 2h lg
0 3 3d lg 7g 0 lc 0 0 ld 1 0 lv 0 2 lk ld 1b 0 jd 9 0 1n 6 3 4o ld 0 3 pd ld 0 0 53 0 3 ph ld 0
3 pj ld 0 3 pl ld 1 3 pr ld 1 3 px ld 0 3 q1 ld 0 3 qy ld p 3 pl lk 0 3 px lk 0 3 q9 ld 0 3 qd
ld 0 3 qf ld 0 3 qh ld 0 3 qz ld p 3 qh lk 0 3 qt lk 0 3 qn ld 0 3 qt ld 0 3 qx ld 4 3 r6 ld 0 3
r6 lk 17 3 t1 lc 0 3 t1 lk 1 3 sz ld 3 3 sm lk 4 3 t6 ld 0 3 t4 lc 0 3 tf li a 3 t4 li v 3 u0 li
m 3 tx lc 0 3 tx lk 1 3 tv ld 3 3 uu lk 4 3 u2 ld 0 3 u0 lc 0 3 ub li n 3 vo lr 0 3 vp lr 21 3
t2 li 0 3 ty li d 3 sw li 0 3 ts li 0 3 sw lk 0 3 ts lk 2 3 t1 li 0 3 tx li 2 3 yg lk 0 3 yh lk
0 3 t2 lk 0 3 ty lk 0 3 t3 lk 0 3 tz lk 2 3 t4 lg 0 3 u0 lg 0 3 t4 lk 0 3 u0 lk 0 3 ta lk 0 3 u6
lk 2 3 yw lk 0 3 yx lk 0 3 tp lk 0 3 ul lk 0 3 tf lg 0 3 ub lg 0 3 tf lk 0 3 ub lk 0 3 tf ln 0 3
ub ln 0 3 tj lk 0 3 uf lk 2 3 tn lk 0 3 uj lk 88 3 17r 18z 0 3 17r 190 0 3 18o 190 0 3 17r 191 0
3 18q 190 49 3 1cl 190 1 3 1c1 190 g 3 1ci 190 gl 3 1t4 1to 7 3 1tc 1to 2 3 1tf 1to z 2 1sl 1to
0 2 1sm 1to 0 2 1sn 1to 0 2 1ss 1to 0 2 1sx 1to 0 2 1sy 1to 0 2 1t7 1to 0 2 1tb 1to 2z 3 1xj 1xa
0 3 1xj 1xz f 2 1wh 1x8 0 2 1wi 1x8 1 2 1wv 1x8 2b 2 20i 20s 2 2 20o 20s y 2 1zq 20s 0 2 1zr 20s
0 2 1zw 20s 2 2 20b 20s 6h 3 287 28m 2 3 287 27y 0 3 287 28n f 2 275 27w 0 2 276 27w 1i 3 2aa
2c7 1h 3 2bq 2bi 0 3 2br 2bi 0 3 2bq 2c7 3f 3 2fa 2fq 3b 3 2in 2j9 6 3 2iu 2j9 0 3 2iu 2ja 1 3
2iu 2iq 0 3 2iy 2j9 3i 3 2me 2m6 0 3 2mf 2m6 0 3 2me 2mv 3x 3 2qh 2q2 1 3 2qh 2q7 0 3 2qk 2q2 0
3 2qh 2qn 9w 2 30i 33r 9 2 30s 33r 4 2 30x 33r 4 2 312 33r 4 2 317 33r c 2 30g 33p 9 2 31t 31u 1
2 31t 31w 0 2 33m 328 1 2 33n 328 8 2 31t 328 h 2 32q 33r 9 2 330 33r 4 2 335 33r 4 2 33a 33r 4
2 33f 33r c 2 32o 33p 30 3 36t 372 25b 3 5c5 5dh 1 3 5c7 5dh 1 3 5c9 5dh 1 3 5cb 5dh 1 3 5cd 5dh
3 3 5ch 5dh 14 3 5dm 5dh 1 3 5do 5dh 2 3 5dq 5dh 0 3 5dr 5dh 1 3 5du 5dh jg 3 1t md 0 3 2p md 0
3 1u lj 0 3 2q lj 0 3 1u mb 0 3 2q mb 0 3 1u mp 0 3 2q mp 0 3 5j ld 0 3 6f ld 0 3 1w lj 0 3 2s
lj 0 3 1w mb 0 3 2s mb 0 3 1w mp 0 3 2s mp 0 3 1w mf 0 3 2s mf 0 3 1w ml 0 3 2s ml 0 3 7m lc 0 3
7n lc 0 3 7m ld 0 3 7n ld 0 3 1x ml 0 3 2t ml 0 3 1x mo 0 3 2t mo 0 3 fc li 0 3 fd li 0 3 1y lj
0 3 2u lj 0 3 1z lg 0 3 2v lg 0 3 20 lj 0 3 2w lj 0 3 20 mb 0 3 2w mb 0 3 20 lk 0 3 2w lk 0 3 20
mf 0 3 2w mf 0 3 20 mm 0 3 2w mm 0 3 21 mo 0 3 2x mo 0 3 5r ld 0 3 6n ld 0 3 23 ld 0 3 2z ld 0 3
23 mb 0 3 2z mb 0 3 23 mp 0 3 2z mp 0 3 24 mb 0 3 30 mb 0 3 5yu lg 0 3 5yv lg 0 3 24 mp 0 3 30
mp 0 3 24 ml 0 3 30 ml 0 3 25 ld 0 3 31 ld 0 3 25 lj 0 3 31 lj 0 3 25 mb 0 3 31 mb 0 3 26 lj 0 3
32 lj 0 3 26 mb 0 3 32 mb 0 3 26 mp 0 3 32 mp 0 3 26 ml 0 3 32 ml 0 3 5x ld 0 3 6t ld 0 3 5x lk
0 3 6t lk 0 3 98 lc 0 3 99 lc 0 3 98 ld 0 3 99 ld 0 3 28 ld 0 3 34 ld 0 3 28 lj 0 3 34 lj 0 3 2a
lj 0 3 36 lj 0 3 2a mb 0 3 36 mb 0 3 5zu lg 0 3 5zv lg 0 3 2a mp 0 3 36 mp 0 3 2b lj 0 3 37 lj 0
3 2b mb 0 3 37 mb 0 3 9m lj 0 3 9n lj 0 3 9s lj 0 3 9t lj 0 3 602 lj 0 3 603 lj 0 3 2c lj 0 3 38
lj 0 3 2c mb 0 3 38 mb 0 3 2c mp 0 3 38 mp 0 3 2c ml 0 3 38 ml 0 3 2d mc 0 3 39 mc 0 3 2d mo 0 3
39 mo 0 3 2d ml 0 3 39 ml 0 3 a0 ld 0 3 a1 ld 0 3 a2 lk 0 3 a3 lk 0 3 2e lf 0 3 3a lf 0 3 2e mb
0 3 3a mb 0 3 2f lc 0 3 3b lc 0 3 2f ld 0 3 3b ld 0 3 2f lk 0 3 3b lk 0 3 2f lj 0 3 3b lj 0 3 2f
mb 0 3 3b mb 0 3 2g lj 0 3 3c lj 0 3 2g lk 0 3 3c lk 0 3 2h lj 0 3 3d lj 0 3 2i le 0 3 3e le 0 3
2i mb 0 3 3e mb 0 3 2i mp 0 3 3e mp 0 3 2w mp 0 3 38 lk 0 3 3b lm 0 3 3d lm 1 3 an lj 4 3 1t mb
0 3 2p mb 0 3 1t ll 0 3 2p ll 0 3 5e ld 0 3 6a ld 0 3 5e lc 0 3 6a lc 0 3 5e ll 0 3 6a ll 0 3 5e
lf 0 3 6a lf 0 3 61s le 0 3 61t le 0 3 76 ld 0 3 77 ld 0 3 76 lc 0 3 77 lc 0 3 76 ll 0 3 77 ll 0
3 76 lf 0 3 77 lf 0 3 61s li 0 3 61t li 0 3 1x mb 0 3 2t mb 0 3 1x ll 0 3 2t ll 0 3 1x lf 0 3 2t
lf 0 3 5m ld 0 3 6i ld 0 3 5m lc 0 3 6i lc 0 3 5m ll 0 3 6i ll 0 3 5m lf 0 3 6i lf 0 3 62g le 0
3 62h le 0 3 21 ll 0 3 2x ll 0 3 21 mb 0 3 2x mb 0 3 27 mb 0 3 33 mb 0 3 27 ll 0 3 33 ll 0 3 5w
ld 0 3 6s ld 0 3 5w lc 0 3 6s lc 0 3 5w ll 0 3 6s ll 0 3 5w lf 0 3 6s lf 0 3 630 le 0 3 631 le 0
3 bk ld 0 3 bl ld 0 3 bk lc 0 3 bl lc 0 3 bk ll 0 3 bl ll 0 3 bk lf 0 3 bl lf 0 3 bk mb 0 3 bl
mb 0 3 2d mb 0 3 39 mb 0 3 2d ll 0 3 39 ll 0 3 bz ld 0 3 c0 ld 0 3 bz lc 0 3 c0 lc 0 3 bz ll 0 3
c0 ll 0 3 bz lf 0 3 c0 lf 0 3 bz mb 0 3 c0 mb 0 3 2h lc 0 3 3d lc 0 3 2h mb 0 3 3d mb 0 3 2h ll
0 3 3d ll 0 3 2h lf 0 3 3d lf 6 3 q9 lv 0 3 q9 lw 0 3 64g lc 0 3 64h lc 0 3 64g ld 0 3 64h ld 0
3 64g n6 0 3 64h n6 0 3 pd lv 0 3 pd lw 0 3 64o lc 0 3 64p lc 0 3 64o ld 0 3 64p ld 0 3 64o n6 0
3 64p n6 0 3 qd lv 0 3 qd lw 0 3 64w lc 0 3 64x lc 0 3 64w ld 0 3 64x ld 2 3 ph lv 0 3 ph lw 0 3
654 lc 0 3 655 lc 0 3 654 ld 0 3 655 ld 2 3 qf lv 0 3 qf lw 0 3 65c lc 0 3 65d lc 0 3 65c ld 0 3
65d ld 0 3 65c n6 0 3 65d n6 0 3 pj lv 0 3 pj lw 0 3 65k lc 0 3 65l lc 0 3 65k ld 0 3 65l ld 0 3
65k n6 0 3 65l n6 0 3 qh lv 0 3 qh lw 0 3 65s lc 0 3 65t lc 0 3 65s ld 0 3 65t ld 0 3 65s n6 0 3
65t n6 0 3 pl lv 0 3 pl lw 0 3 660 lc 0 3 661 lc 0 3 660 ld 0 3 661 ld 0 3 660 n6 0 3 661 n6 0 3
qn lv 0 3 qn lw 0 3 668 lc 0 3 669 lc 0 3 668 ld 0 3 669 ld 2 3 pr lv 0 3 pr lw 0 3 66g lc 0 3
66h lc 0 3 66g ld 0 3 66h ld 2 3 qt lv 0 3 qt lw 0 3 66o lc 0 3 66p lc 0 3 66o ld 0 3 66p ld 0 3
66o n6 0 3 66p n6 1 3 px lw 1 3 66x lc 1 3 66x ld 1 3 66x n6 0 3 qx lv 0 3 qx lw 0 3 674 lc 0 3
675 lc 0 3 674 ld 0 3 675 ld 0 3 674 n6 0 3 675 n6 0 3 q1 lv 0 3 q1 lw 0 3 67c lc 0 3 67d lc 0 3
67c ld 0 3 67d ld 0 3 67c n6 0 3 67d n6 0 3 q9 lc 0 0 q4 0 3 qd lc 0 0 q5 0 3 qf lc 0 0 q6 0 3
qh lc 0 0 q7 0 3 qn lc 0 0 r0 0 3 qt lc 0 0 r1 0 3 qx lc 0 0 r2 2 3 64g n9 0 3 64h n9 0 3 64i n9
0 3 64j n9 0 3 64k n9 0 3 64l n9 0 3 64m n9 0 3 64n n9 0 3 64o n9 0 3 64p n9 0 3 64q n9 0 3 64r
n9 0 3 64s n9 0 3 64t n9 0 3 64u n9 0 3 64v n9 0 3 65c n9 0 3 65d n9 0 3 65e n9 0 3 65f n9 0 3
65g n9 0 3 65h n9 0 3 65i n9 0 3 65j n9 0 3 65k n9 0 3 65l n9 0 3 65m n9 0 3 65n n9 0 3 65o n9 0
3 65p n9 0 3 65q n9 0 3 65r n9 0 3 674 n9 0 3 675 n9 0 3 676 n9 0 3 677 n9 0 3 678 n9 0 3 679 n9
0 3 67a n9 0 3 67b n9 0 3 67c n9 0 3 67d n9 0 3 67e n9 0 3 67f n9 0 3 67g n9 0 3 67h n9 0 3 67i
n9 0 3 67j n9 0 3 q9 li 0 3 q9 lg 0 3 67k n9 0 3 q9 n9 0 3 q4 n9 1 3 q9 n6 0 3 69i n9 0 3 pd li
0 3 pd lg 0 3 pd lc 0 0 p2 0 3 pd n9 1 0 qh 2 3 4o n6 0 3 67o n9 0 3 qf n9 0 3 q6 n9 1 3 qf n6 0
3 69y n9 0 3 ph lc 0 0 p4 0 3 pj lc 0 0 p5 0 3 pj n9 0 3 69r lc 0 3 69r ld 0 3 69r n6 0 3 qh li
0 3 qh lg 0 3 qy lc 0 0 pc 2 3 qh n6 0 3 qy n6 0 3 pl li 0 3 pl lg 0 3 pl lc 0 0 p6 1 3 6bi lc 0
3 6bi ld 0 3 6bi n6 0 3 qt li 0 3 qt lg 0 3 qz lc 0 0 q8 0 3 qp lv 0 3 qp lw 0 3 qt n6 0 3 qz n6
0 3 px li 0 3 px lg 0 3 px lc 0 0 pa 0 3 pt lw 0 3 4o lc 0 0 p1 0 0 2o 2 3 67w n9 0 3 qx n9 0 3
r2 n9 1 3 qx n6 0 3 6ba n9 0 3 pr lc 0 0 p8 0 3 q1 lc 0 0 pb 0 3 q1 n9 0 0 50 2 0 6bm 0 0 6bn 84
0 q1 3 0 23 0 0 5h 32 3 6mo mw 0 3 6mq mw i 3 6ms mw u 3 6og mw 0 3 6ok mw 0 3 6oi mw 1g 3 6pv
mw 4 3 6q0 mw 2 3 6q3 mw n 3 6qr mw 1 3 6qt mw q 3 6rg mw 2 3 6rn mw 2 3 6rp mw 1 3 6rs mw m 3
1p mw 1 3 6sh mw a 3 6rx mw 0 3 1o mw 0 3 1q mw 0 3 6sk mw 0 3 6sl mw 2 3 6sy mw 0 3 6sz mw 2 3
6t2 mw 0 3 6t3 mw 6 3 6t6 mw 0 3 6t7 mw 2 3 6te mw 0 3 6tf mw 2 3 6ti mw 0 3 6tj mw y 3 6ua mw 0
3 6ug mw 0 3 6uh mw 0 3 6uj mw 1c 3 6t8 mw 0 3 6t9 mw 0 3 6tt mw 0 3 6tu mw 6 3 6uq mw 0 3 6ur
mw 0 3 6us mw 0 3 6ut mw 1n 0 9hk 0 0 9hl 1ip 2 8gt mw 12n 3 9jf 9ll 1 3 9jh 9ll 1 3 9jj 9ll 1 3
9jl 9ll 1 3 9jn 9ll 1 3 9jp 9ll 1 3 9jr 9ll 1 3 9jt 9ll 1 3 9jv 9ll 1 3 9jx 9ll 1 3 9jz 9ll 1 3
9k1 9ll 2 3 9k4 9ll 1 3 9k6 9ll 1 3 9k8 9ll 6 3 9kf 9ll 0 3 9kf 9lm 1 3 9ki 9ll 0 3 9ki 9lm 1 3
9kl 9ll 0 3 9kl 9lm 1 3 9ko 9ll 0 3 9ko 9lm 1 3 9kr 9ll 0 3 9kr 9lm m 3 9ja 9ll 9 3 9lp 9ll d 3
9m3 9ll 1 3 9m5 9ll 1 3 9m7 9ll 1 3 9m9 9ll 1 3 9mb 9ll 1 3 9md 9ll 1 3 9mf 9ll 1 3 9mh 9ll 1 3
9mj 9ll 1 3 9ml 9ll 1 3 9mn 9ll 1 3 9mp 9ll 2 3 9ms 9ll 1 3 9mu 9ll 1 3 9mw 9ll 6 3 9n3 9ll 0 3
9n3 9lm 1 3 9n6 9ll 0 3 9n6 9lm 1 3 9n9 9ll 0 3 9n9 9lm 1 3 9nc 9ll 0 3 9nc 9lm 1 3 9nf 9ll 0 3
9nf 9lm m 3 9ly 9ll 2 3 9nz 9ll 0 3 9o0 9ll 0 3 9o1 9ll 0 3 9o2 9ll 3 3 9od 9ll 13i9 0 rpk 0 0
kc4 0 0 s7e 0 0 rt4 0 0 lw1 0 0 fg2 0 0 gkl 0 0 vj0 0 0 vj0 0 0 hn5 0 0 ssx 0 0 gw7 0 0 hmw 0 0
jcm 0 0 ne1 0 0 p6t 0 0 qin 0 0 qt6 0 0 r20 0 0 sjz 0 0 kxu 0 0 ljv 0 0 mah 0 0 mvy 0 0 q4d 0 0
sq2 0 0 uep 0 0 fia 0 0 ghh 0 0 l50 0 0 mjf 0 0 qi5 0 0 v8e 0 0 ifk 0 0 m3v 0 0 qfh 0 0 r50 0 0
jih 0 0 pnc 0 0 qvz 0 0 iq2 0 0 kd3 0 0 lm2 0 0 mpo 0 0 slq 0 0 fpi 0 0 g53 0 0 gda 0 0 jwk 0 0
l3n 0 0 mj4 0 0 nhj 0 0 pa9 0 0 qh2 0 0 qjg 0 0 s1b 0 0 tv6 0 0 upb 0 0 v7e 0 0 nt8 0 0 nzz 0 0
otc 0 0 q15 0 0 t1g 0 0 vb3 0 0 rfa 0 0 hjz 0 0 iro 0 0 okg 0 0 pdq 0 0 mle 0 0 nuy 0 0 rsy 0 0
ttj 0 0 hjs 0 0 i8y 0 0 kyb 0 0 lp6 0 0 lxr 0 0 oq7 0 0 oxj 0 0 tor 0 0 gcy 0 0 pe3 0 0 g64 0 0
g5o 0 0 o4c 0 0 ou6 0 0 q29 0 0 tpx 0 0 rk0 0 0 jin 0 0 kxu 0 0 rge 0 0 fg9 0 0 i5j 0 0 iz6 0 0
mtj 0 0 n74 0 0 gev 0 0 nwb 0 0 fr3 0 0 iw9 0 0 ff1 0 0 lho 0 0 k1k 0 0 opu 0 0 gjn 0 0 hge 0 0
ni9 0 0 q4p 0 0 re2 0 0 la2 0 0 sds 0 0 lfs 0 0 jjy 0 0 put 0 0 jog 0 0 n6t 0 0 fji 0 0 g2x 0 0
g5l 0 0 kn5 0 0 oo7 0 0 prj 0 0 rf6 0 0 ssv 0 0 gdx 0 0 gn6 0 0 ho3 0 0 ir0 0 0 k3p 0 0 m4e 0 0
nxm 0 0 tkd 0 0 ui2 0 0 vbr 0 0 vda 0 0 gbf 0 0 kau 0 0 l87 0 0 sbm 0 0 ino 0 0 j9s 0 0 jcw 0 0
jve 0 0 lyb 0 0 mdl 0 0 n0p 0 0 o22 0 0 ovo 0 0 pdb 0 0 s9y 0 0 q9a 0 0 sgz 0 0 t3e 0 0 g7r 0 0
gbn 0 0 gql 0 0 ma0 0 0 r0i 0 0 re2 0 0 iq1 0 0 iyd 0 0 jnf 0 0 l9q 0 0 oji 0 0 mt1 0 0 fl0 0 0
h6h 0 0 i5j 0 0 iii 0 0 izg 0 0 muq 0 0 mzt 0 0 p7e 0 0 pc6 0 0 svo 0 0 tti 0 0 tvs 0 0 u1k 0 0
fpn 0 0 o1a 0 0 ss4 0 0 trs 0 0 j4x 0 0 fie 0 0 fyy 0 0 i5q 0 0 i7z 0 0 k2h 0 0 kxu 0 0 mha 0 0
ncy 0 0 q9o 0 0 sjg 0 0 vil 0 0 k94 0 0 tny 0 0 gax 0 0 kfv 0 0 kj7 0 0 lkx 0 0 luk 0 0 mx5 0 0
n6h 0 0 nsb 0 0 opc 0 0 u3i 0 0 g31 0 0 je6 0 0 tq0 0 0 fu3 0 0 ie1 0 0 lpm 0 0 sa2 0 0 ivf 0 0
j7o 0 0 kk7 0 0 mtj 0 0 tqe 0 0 g89 0 0 glr 0 0 i91 0 0 k5v 0 0 kem 0 0 ko8 0 0 lid 0 0 mx2 0 0
naa 0 0 p6h 0 0 r0v 0 0 r1d 0 0 sss 0 0 tsy 0 0 gfz 0 0 lve 0 0 gm5 0 0 mhc 0 0 n14 0 0 qgq 0 0
tr7 0 0 uvr 0 0 vbz 0 0 kgn 0 0 lor 0 0 pns 0 0 o97 0 0 obk 0 0 olu 0 0 mo0 0 0 m8p 0 0 riw 0 0
fk0 0 0 px2 0 0 g8q 0 0 g7b 0 0 ip2 0 0 jir 0 0 onq 0 0 i2t 0 0 ljy 0 0 kac 0 0 saj 0 0 qx8 0 0
tot 0 0 r63 0 0 iqb 0 0 g1s 0 0 gxs 2 0 hga 1 0 k8k 2 0 g66 0 0 mqy 0 0 ngq 0 0 ny4 0 0 nz2 0 0
nz9 0 0 o0f 0 0 tw6 0 0 on2 0 0 p8d 1 0 qhe 1 0 rg8 2 0 shk 0 0 sn1 3 0 u7j 0 0 u7w 0 0 u94 0 0
v5g 0 0 sm6 0 0 trr 0 0 fqm 0 0 fzb 0 0 g25 0 0 gcp 0 0 gdg 0 0 ggh 0 0 gwt 0 0 gzq 0 0 h2g 0 0
hfk 0 0 hig 0 0 i90 0 0 i9a 0 0 j2s 0 0 j8o 0 0 j9q 0 0 jci 0 0 k0f 0 0 k4i 0 0 k9d 0 0 kn9 0 0
lmf 0 0 lqy 0 0 lya 0 0 mem 0 0 mjv 0 0 mxu 0 0 ntd 0 0 ny6 0 0 nyh 0 0 nyg 0 0 nyo 0 0 nyu 0 0
nz1 0 0 o0d 0 0 o0e 0 0 o5c 0 0 o75 0 0 og0 0 0 ovo 0 0 ow9 0 0 oxt 0 0 p6a 0 0 pad 0 0 pnx 0 0
prt 0 0 prt 0 0 q53 0 0 r2o 0 0 r6e 0 0 rgh 0 0 ri1 0 0 rtf 0 0 ruw 0 0 sdy 0 0 shk 0 0 tsz 0 0
u0v 0 0 u2j 0 0 j1x 0 0 36cu 0 0 pp4 2 0 ffq 0 0 g51 0 0 g2w 0 0 fpc 0 0 g1x 0 0 g3k 0 0 gcn 0 0
ge2 0 0 gwt 0 0 gut 0 0 gwp 0 0 gyq 0 0 hga 0 0 hir 0 0 hms 0 0 hn8 0 0 huq 0 0 i08 0 0 iqa 0 0
iqh 0 0 iuh 0 0 iwd 0 0 j4o 0 0 j7y 0 0 j60 0 0 j9q 0 0 j8g 0 0 jci 0 0 jec 0 0 jpg 0 0 jrw 0 0
jte 0 0 k0m 0 0 k8k 0 0 kd3 0 0 kd7 0 0 keu 0 0 l89 0 0 la2 0 0 lkx 0 0 lwb 0 0 lvv 0 0 lya 0 0
m5a 0 0 mem 0 0 nmv 0 0 mk5 0 0 mnj 0 0 mqy 0 0 n01 0 0 n46 0 0 n5n 0 0 nbx 0 0 nbz 0 0 ngq 0 0
nh7 0 0 nhw 0 0 nka 0 0 nk0 0 0 nv0 0 0 o8h 0 0 og0 0 0 ol7 0 0 orf 0 0 ovo 0 0 p4u 0 0 pad 0 0
pxu 0 0 q27 0 0 qrd 0 0 r41 0 0 r5y 0 0 r6e 0 0 ren 0 0 rg8 0 0 rez 0 0 rgh 0 0 rge 0 0 rfx 0 0
ri1 0 0 rka 0 0 ruw 0 0 sag 0 0 sj6 0 0 srd 0 0 sxi 0 0 tq4 0 0 tsz 0 0 tw6 0 0 tzv 0 0 u0v 0 0
u17 0 0 u2j 0 0 umq 0 0 vj0 0 0 313e 0 0 3138 0 0 33dh 0 0 brx 0 0 cns 0 0 cop 0 0 39e1 0 0 3bgw
0 0 3i6r 0 0 vgj 0 0 vim 1v 2 15l 14k 1 2 16a 14n a 2 161 14x 0 2 161 14y 0 2 1dmx 14x 0 2 1dmx
14y 0 2 15c 14n 0 2 15c 14o 0 2 15c 14s 0 2 15d 14s 0 2 15e 14s 0 2 15f 14s 0 2 15g 14s 0 2 15h
14s 0 2 15i 14s 1 2 15k 14s 0 2 15l 14s 0 2 15m 14s 0 2 15n 14s 0 2 15o 14s 1 2 15q 14s 1 2 15s
14s 0 2 15t 14s 1 2 15v 14s 0 2 15w 14s 1 2 15y 14s 0 2 15z 14s 0 2 160 14s 0 2 161 14s 0 2 162
14s 0 2 15h 14p 0 2 15d 14v 0 2 15n 14v 0 2 15w 14v 47f 3 1huh 1hve 1 3 1huj 1hve e 3 1hut 1hve
3m 3 1hyp 1hyf 0 3 1hyq 1hyf ez 3 1idj 1ida 0 3 1idj 1idz a6 3 1int 1inu 0 3 1int 1ink 1 3 1int
1inx 6z 3 1iuw 1iun 0 3 1iux 1iun os 3 1jjp 1jjk 10dh 2 2jx3 2jxh 0 2 2jx4 2jxh 0 2 2jxb 2jxq 0
2 2jxb 2jxr 0 2 2jxb 2jxs 0 2 2jxb 2jxt 0 2 2jxb 2jxu 2e 2 2jzt 2jxh 0 2 2jzu 2jxh 0 2 2jzv 2jxq
0 2 2jzw 2jxq 0 2 2jzv 2jxr 0 2 2jzw 2jxr 1m4f 0 fgd 0 0 fg8 0 0 fgh 0 0 2tcy 0 0 fog 0 0 fqm 0
0 fqz 0 0 fsy 0 0 fwa 0 0 fx5 0 0 fzb 0 0 fyn 0 0 ae6 0 0 2ud6 0 0 g25 0 0 g2c 0 0 g2s 0 0 g3b 0
0 2u58 0 0 aex 0 0 g2v 0 0 g3x 0 0 2u6j 0 0 g47 0 0 g4k 0 0 fkc 0 0 g4s 0 0 g51 0 0 3ly7 0 0 g6t
0 0 g77 0 0 afz 0 0 g8r 0 0 g92 0 0 gaa 0 0 gaf 0 0 ahh 0 0 gcn 0 0 gcp 0 0 gdg 0 0 ge2 0 0 ged
0 0 gee 0 0 gev 0 0 gg9 0 0 ggh 0 0 ggq 0 0 ghf 0 0 ghp 0 0 ghr 0 0 ghr 0 0 ghr 0 0 2v58 0 0 m7k
0 0 gju 0 0 gkf 0 0 2vdv 0 0 gkr 0 0 gkx 0 0 gli 0 0 gpq 0 0 gmw 0 0 gnc 0 0 go8 0 0 gpu 0 0 gs6
0 0 gsw 0 0 gur 0 0 gv7 0 0 gw4 0 0 gw4 0 0 gwp 0 0 gx7 0 0 gxf 0 0 gxu 0 0 h7a 0 0 gzq 0 0 h7b
0 0 h1t 0 0 h2s 0 0 g7b 0 0 hke 0 0 hce 0 0 hdg 0 0 he5 0 0 haj 0 0 hf6 0 0 hf5 0 0 hik 0 0 2x9g
0 0 hki 0 0 hkn 0 0 hl2 0 0 hlm 0 0 hlu 0 0 hnm 0 0 2xm0 0 0 2xnu 0 0 hrg 0 0 hsr 0 0 ht3 0 0
hqw 0 0 huu 0 0 aum 0 0 av0 0 0 hzc 0 0 i0u 0 0 i0u 0 0 2y88 0 0 i4j 0 0 i54 0 0 i5j 0 0 i5v 0 0
2yhk 0 0 i67 0 0 i6e 0 0 itv 0 0 i76 0 0 ayp 0 0 i8w 0 0 i9a 0 0 ibk 0 0 ia5 0 0 2z1g 0 0 if7 0
0 2z1i 0 0 ige 0 0 igb 0 0 igs 0 0 ijl 0 0 ijm 0 0 b3j 0 0 ikd 0 0 ilk 0 0 im5 0 0 ind 0 0 b4y 0
0 2zr7 0 0 b5o 0 0 ipc 0 0 ipf 0 0 ipi 0 0 iq2 0 0 3pg2 0 0 iri 0 0 3035 0 0 3035 0 0 poh 0 0
isi 0 0 isi 0 0 b7r 0 0 335k 0 0 3cgq 0 0 iua 0 0 iuj 0 0 b8j 0 0 ivu 0 0 ix9 0 0 ixj 0 0 iyh 0
0 j29 0 0 bay 0 0 ba4 0 0 j2s 0 0 30t0 0 0 j47 0 0 j7s 0 0 j7w 0 0 j7y 0 0 j7w 0 0 j96 0 0 j9q 0
0 jaq 0 0 jac 0 0 jan 0 0 jby 0 0 jci 0 0 jcm 0 0 jdc 0 0 jdn 0 0 jfh 0 0 jht 0 0 jis 0 0 jm8 0
0 31n0 0 0 jlp 0 0 jjw 0 0 jmw 0 0 jnn 0 0 jqc 0 0 31td 0 0 js2 0 0 jph 0 0 jop 0 0 bhq 0 0 ju1
0 0 jum 0 0 jvh 0 0 juf 0 0 bjg 0 0 k0f 0 0 k18 0 0 32mi 0 0 k4j 0 0 kc8 0 0 k7d 0 0 bo9 0 0 k9d
0 0 bns 0 0 bms 0 0 g42 0 0 g45 0 0 kcg 0 0 k9o 0 0 pf1 0 0 deh 0 0 kd3 0 0 kd7 0 0 kdd 0 0 kf2
0 0 ker 0 0 33cz 0 0 bpl 0 0 kje 0 0 kg5 0 0 klu 0 0 kn9 0 0 33hp 0 0 kni 0 0 kkf 0 0 kr8 0 0
brx 0 0 ksi 0 0 kv7 0 0 kx6 0 0 l2g 0 0 33xf 0 0 l3v 0 0 bvc 0 0 l5t 0 0 34br 0 0 l78 0 0 bwu 0
0 l82 0 0 l9b 0 0 la2 0 0 la3 0 0 34p9 0 0 2yvf 0 0 34sa 0 0 le6 0 0 354s 0 0 lhb 0 0 lhp 0 0
lev 0 0 ljq 0 0 lku 0 0 lmf 0 0 lkx 0 0 lm1 0 0 lmg 0 0 lmt 0 0 357i 0 0 lkk 0 0 lrj 0 0 lta 0 0
c37 0 0 lvv 0 0 lvr 0 0 35jl 0 0 lq1 0 0 m0e 0 0 35ni 0 0 35ou 0 0 m2u 0 0 m61 0 0 m5a 0 0 m57 0
0 c5y 0 0 m6i 0 0 m7x 0 0 m7r 0 0 m99 0 0 2u5h 0 0 mdh 0 0 368z 0 0 mfw 0 0 36i3 0 0 mjs 0 0 mk5
0 0 mkw 0 0 36yw 0 0 mm8 0 0 mmt 0 0 3779 0 0 37dg 0 0 mt6 0 0 mtn 0 0 cdo 0 0 mud 0 0 ce0 0 0
ce0 0 0 myv 0 0 mzg 0 0 n01 0 0 n0l 0 0 n2i 0 0 cgr 0 0 n50 0 0 386u 0 0 n5q 0 0 389e 0 0 n74 0
0 2zrz 0 0 nbk 0 0 38v5 0 0 38vs 0 0 38zo 0 0 cn0 0 0 cnc 0 0 nhw 0 0 394j 0 0 394i 0 0 395l 0 0
396b 0 0 nj2 0 0 nj3 0 0 nj3 0 0 nka 0 0 cop 0 0 nm3 0 0 cp2 0 0 cra 0 0 39r1 0 0 nri 0 0 nt8 0
0 nv0 0 0 ctf 0 0 3a5i 0 0 nyu 0 0 3a8q 0 0 3a9x 0 0 o0f 0 0 o2z 0 0 cvj 0 0 o5c 0 0 o5m 0 0 o5r
0 0 3at8 0 0 3b1j 0 0 3b1j 0 0 oa6 0 0 d1e 0 0 3b8r 0 0 og6 0 0 og9 0 0 d2f 0 0 3beo 0 0 onm 0 0
d5s 0 0 oo8 0 0 oo3 0 0 oow 0 0 3c06 0 0 orn 0 0 d8h 0 0 ouf 0 0 ow2 0 0 oxx 0 0 d9w 0 0 3ciw 0
0 3cjr 0 0 dax 0 0 3cnt 0 0 p6i 0 0 3cqm 0 0 p79 0 0 pa2 0 0 pad 0 0 3d22 0 0 3d43 0 0 pcw 0 0
3d7s 0 0 pdc 0 0 33a7 0 0 ded 0 0 pf6 0 0 phf 0 0 dfv 0 0 pj2 0 0 hx1 0 0 3dlz 0 0 3dmd 0 0 33bn
0 0 33bw 0 0 poh 0 0 pok 0 0 sda 0 0 dij 0 0 psh 0 0 psb 0 0 pst 0 0 gc3 0 0 ptd 0 0 ptf 0 0 ptp
0 0 puu 0 0 3ebg 0 0 put 0 0 pwd 0 0 pyb 0 0 q0d 0 0 pwj 0 0 q0t 0 0 q1z 0 0 q53 0 0 pxv 0 0 q16
0 0 q18 0 0 q1o 0 0 3eie 0 0 3eqz 0 0 3emt 0 0 dnv 0 0 q9d 0 0 q9f 0 0 qae 0 0 3g0a 0 0 qck 0 0
3f3g 0 0 dp9 0 0 dpd 0 0 3f75 0 0 3ff6 0 0 dpn 0 0 qj4 0 0 qjg 0 0 qjr 0 0 qjt 0 0 qll 0 0 qko 0
0 qoe 0 0 qn6 0 0 qrd 0 0 qp4 0 0 qqz 0 0 qrq 0 0 dsn 0 0 qu9 0 0 qv5 0 0 dtl 0 0 qxs 0 0 qxv 0
0 3giv 0 0 r13 0 0 r1a 0 0 dv9 0 0 r22 0 0 aez 0 0 3gz2 0 0 3h46 0 0 dz2 0 0 dzb 0 0 rds 0 0 rfx
0 0 rka 0 0 rpx 0 0 3hrc 0 0 rsb 0 0 rsx 0 0 rvf 0 0 rxz 0 0 3i9b 0 0 2upw 0 0 s0b 0 0 rzw 0 0
s1c 0 0 2uvy 0 0 s7o 0 0 sag 0 0 3jki 0 0 3jl9 0 0 sk4 0 0 smp 0 0 snl 0 0 3ju6 0 0 snv 0 0 svs
0 0 t07 0 0 t08 0 0 sxo 0 0 t89 0 0 t91 0 0 3ksa 0 0 tjf 0 0 ej9 0 0 tkn 0 0 3l2v 0 0 eli 0 0
ts3 0 0 iia 0 0 tur 0 0 3ltx 0 0 3lzu 0 0 epa 0 0 epi 0 0 u00 0 0 3mdm 0 0 er6 0 0 3mhi 0 0 u17
0 0 u17 0 0 u21 0 0 3mpi 0 0 u76 0 0 eur 0 0 u95 0 0 ucn 0 0 ude 0 0 uf2 0 0 ez2 0 0 3nsg 0 0
umq 0 0 uv4 0 0 v0d 0 0 f66 0 0 f71 0 0 v3b 0 0 3owe 0 0 f7c 0 0 3oxx 0 0 3p5a 0 0 3p8x 0 0 vcr
0 0 f9y 0 0 veh 0 0 vem 0 0 vet 0 0 vf3 0 0 vfa 0 0 vgb 0 0 3pxc]],
  widths = [[
9hc 1 w 14w0 1 x 0 1 y 0 1 z 0 1 10 0 1 11 0 1 12 0 1 13 0 1 14 0 1 15 0 1 16 0 1 17 0 1 18 0 1
19 0 1 1a 0 1 1b 0 1 1c 0 1 1d 0 1 1e 0 1 1f 0 1 1g 0 1 1h 0 1 1i 0 1 1j 0 1 1k 0 1 1l 0 1 1m 0
1 1n 0 1 1o 0 1 1p 0 1 1q 0 1 1r 0 1 1s 0 1 1t 0 1 1u 0 1 1v 0 1 1w 0 1 1x 0 1 1y 0 1 1z 0 1 20
0 1 21 0 1 22 0 1 23 0 1 24 0 1 25 0 1 26 0 1 27 0 1 28 0 1 29 0 1 2a 0 1 2b 0 1 2c 0 1 2d 0 1
2e 0 1 2f 0 1 2g 0 1 2h 0 1 2i 0 1 2j 0 1 2k 0 1 2l 0 1 2m 0 1 2n 0 1 2o 0 1 2p 0 1 2q 0 1 2r 0
1 2s 0 1 2t 0 1 2u 0 1 2v 0 1 2w 0 1 2x 0 1 2y 0 1 2z 0 1 30 0 1 31 0 1 32 0 1 33 0 1 34 0 1 35
0 1 36 0 1 37 0 1 38 0 1 39 0 1 3a 0 1 3b 0 1 3c 0 1 3d 0 1 3e 0 1 3f 0 1 3g 0 1 3h 0 1 3i 0 1
879 0 1 87a 0 1 9he 0 1 9ho 0 1 9hp 0 1 9hd 0 1 9ob 0 1 9o2 0 1 9lt 0 1 9lv 0 1 9lx 0 1 9lz 0 1
9m1 0 1 9nn 0 1 9np 0 1 9nr 0 1 9mr 0 1 9oc 0 1 9lu 0 1 9lw 0 1 9ly 0 1 9m0 0 1 9m2 0 1 9m3 0 1
9m5 0 1 9m7 0 1 9m9 0 1 9mb 0 1 9md 0 1 9mf 0 1 9mh 0 1 9mj 0 1 9ml 0 1 9mn 0 1 9mp 0 1 9ms 0 1
9mu 0 1 9mw 0 1 9my 0 1 9mz 0 1 9n0 0 1 9n1 0 1 9n2 0 1 9n3 0 1 9n6 0 1 9n9 0 1 9nc 0 1 9nf 0 1
9ni 0 1 9nj 0 1 9nk 0 1 9nl 0 1 9nm 0 1 9no 0 1 9nq 0 1 9ns 0 1 9nt 0 1 9nu 0 1 9nv 0 1 9nw 0 1
9nx 0 1 9nz 0 1 9o3 0 1 9ll 0 1 9lm 0 1 3fk 0 1 3cw 0 1 3cx 0 1 3hm 0 1 3cy 0 1 3ho 0 1 3hp 0 1
3cz 0 1 3d0 0 1 3d1 0 1 3hs 0 1 3ht 0 1 3hu 0 1 3hv 0 1 3hw 0 1 3hx 0 1 3dm 0 1 3d2 0 1 3d3 0 1
3d4 0 1 3dt 0 1 3d5 0 1 3d6 0 1 3d7 0 1 3d8 0 1 3d9 0 1 3da 0 1 3db 0 1 3dc 0 1 3dd 0 1 3de 3 1
3fl 0 1 3fm 0 1 3fn 0 1 3fo 0 1 3fp 0 1 3fq 2 1 3fr 0 1 3fs 0 1 3ft 0 1 3fu 0 1 3fv 0 1 3fw 2 1
3fx 0 1 3fy 0 1 3fz 0 1 3g0 0 1 3g1 0 1 3g2 2 1 3g3 0 1 3g4 0 1 3g5 3 1 4i 0 1 4j 0 1 4s 0 2 w
lg 0 1 4m 0 1 4l 0 1 6g9 1 1 7b6 0 1 6mo 0 1 6mp 0 1 6mq 0 1 6mr 0 1 7fk 0 1 7gr]],
  entities = [[
AElig*=5i AMP*=12 Aacute*=5d Acirc*=5e Agrave*=5c Alpha=pd Aring*=5h Atilde*=5f Auml*=5g Beta=pe
COPY*=4p Ccedil*=5j Chi=pz Dagger=6ch Delta=pg ETH*=5s Eacute*=5l Ecirc*=5m Egrave*=5k
Epsilon=ph Eta=pj Euml*=5n GT*=1q Gamma=pf Iacute*=5p Icirc*=5q Igrave*=5o Iota=pl Iuml*=5r
Kappa=pm LT*=1o Lambda=pn Mu=po Ntilde*=5t Nu=pp OElig=9e Oacute*=5v Ocirc*=5w Ograve*=5u
Omega=q1 Omicron=pr Oslash*=60 Otilde*=5x Ouml*=5y Phi=py Pi=ps Prime=6cz Psi=q0 QUOT*=y REG*=4u
Rho=pt Scaron=9s Sigma=pv THORN*=66 Tau=pw Theta=pk Uacute*=62 Ucirc*=63 Ugrave*=61 Upsilon=px
Uuml*=64 Xi=pq Yacute*=65 Yuml=ag Zeta=pi aacute*=69 acirc*=6a acute*=50 aelig*=6e agrave*=68
alefsym=6k5 alpha=q9 amp*=12 and=6qv ang=6qo apos=13 aring*=6d asymp=6rs atilde*=6b auml*=6c
bdquo=6ce beta=qa brvbar*=4m bull=6ci cap=6qx ccedil*=6f cedil*=54 cent*=4i chi=qv circ=jq
clubs=7kz cong=6rp copy*=4p crarr=6np cup=6qy curren*=4k dArr=6oj dagger=6cg darr=6mr deg*=4w
delta=qc diams=7l2 divide*=6v eacute*=6h ecirc*=6i egrave*=6g empty=6px emsp=6bn ensp=6bm
epsilon=qd equiv=6sh eta=qf eth*=6o euml*=6j euro=6gc exist=6pv fnof=b6 forall=6ps frac12*=59
frac14*=58 frac34*=5a frasl=6dg gamma=qb ge=6sl gt*=1q hArr=6ok harr=6ms hearts=7l1 hellip=6cm
iacute*=6l icirc*=6m iexcl*=4h igrave*=6k image=6j5 infin=6qm int=6qz iota=qh iquest*=5b
isin=6q0 iuml*=6n kappa=qi lArr=6og lambda=qj lang=7vs laquo*=4r larr=6mo lceil=6x4 ldquo=6cc
le=6sk lfloor=6x6 lowast=6qf loz=7gq lrm=6by lsaquo=6d5 lsquo=6c8 lt*=1o macr*=4v mdash=6c4
micro*=51 middot*=53 minus=6qa mu=qk nabla=6pz nbsp*=4g ndash=6c3 ne=6sg ni=6q3 not*=4s
notin=6q1 nsub=6tg ntilde*=6p nu=ql oacute*=6r ocirc*=6s oelig=9f ograve*=6q oline=6da omega=qx
omicron=qn oplus=6tx or=6qw ordf*=4q ordm*=56 oslash*=6w otilde*=6t otimes=6tz ouml*=6u para*=52
part=6pu permil=6cw perp=6ud phi=qu pi=qo piv=ra plusmn*=4x pound*=4j prime=6cy prod=6q7
prop=6ql psi=qw quot*=y rArr=6oi radic=6qi rang=7vt raquo*=57 rarr=6mq rceil=6x5 rdquo=6cd
real=6jg reg*=4u rfloor=6x7 rho=qp rlm=6bz rsaquo=6d6 rsquo=6c9 sbquo=6ca scaron=9t sdot=6v9
sect*=4n shy*=4t sigma=qr sigmaf=qq sim=6rg spades=7kw sub=6te sube=6ti sum=6q9 sup=6tf sup1*=55
sup2*=4y sup3*=4z supe=6tj szlig*=67 tau=qs there4=6r8 theta=qg thetasym=r5 thinsp=6bt thorn*=72
tilde=kc times*=5z trade=6jm uArr=6oh uacute*=6y uarr=6mp ucirc*=6z ugrave*=6x uml*=4o upsih=r6
upsilon=qt uuml*=70 weierp=6jc xi=qm yacute*=71 yen*=4l yuml*=73 zeta=qe zwj=6bx zwnj=6bw]],
}
